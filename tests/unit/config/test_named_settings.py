"""Settings by the names of their variables."""

from __future__ import annotations

from satmeter.config.named_settings import is_set, secret_of, value_of
from satmeter.config.settings import Settings


def test_a_setting_is_found_by_its_variable() -> None:
    settings = Settings.model_validate({"LNBITS_URL": "http://127.0.0.1:1", "LNBITS_ADMIN_KEY": "key"})
    assert value_of(settings, "LNBITS_URL") == "http://127.0.0.1:1" and secret_of(settings, "LNBITS_URL") is None
    secret = secret_of(settings, "LNBITS_ADMIN_KEY")
    assert secret is not None and secret.get_secret_value() == "key"
    assert is_set(settings, "LNBITS_ADMIN_KEY") and not is_set(settings, "NWC_URL")
