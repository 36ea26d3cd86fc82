"""Keys that derive from the root key."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from pydantic import SecretStr

from satmeter.config.root_key import derived_keys, previous_keys
from satmeter.config.settings import Settings
from satmeter.scripts.preflight.settings_checks import problems

ONE, TWO = "5a" * 32, "3c" * 32


def test_a_purpose_has_the_key_that_it_always_had() -> None:
    """Otherwise every credential, and every id of an Idempotency-Key, would change with a version."""
    keys = derived_keys(Settings(macaroon_root_key=SecretStr(ONE)))
    for purpose, key in (("ids", keys.ids), ("macaroons", keys.macaroons), ("receipts", keys.receipts)):
        assert key == hmac.digest(bytes.fromhex(ONE), f"satmeter {purpose}".encode(), hashlib.sha256)
    assert keys.webhooks == hmac.digest(bytes.fromhex(ONE), b"satmeter webhooks", hashlib.sha256)
    assert keys.digest == hmac.digest(bytes.fromhex(ONE), b"satmeter digest of the key", hashlib.sha256).hex()[:16]


def test_no_key_is_shown() -> None:
    keys = derived_keys(Settings(macaroon_root_key=SecretStr(ONE)))
    shown = repr(keys)
    assert keys.digest in shown
    assert not any(repr(key)[2:-1] in shown or key.hex() in shown for key in (keys.ids, keys.macaroons))


def test_the_previous_key_gives_what_it_gave() -> None:
    first, second = SecretStr(ONE), SecretStr(TWO)
    assert previous_keys(Settings(macaroon_root_key=first)) is None
    rotated = Settings(macaroon_root_key=second, macaroon_root_key_previous=first)
    assert previous_keys(rotated) == derived_keys(Settings(macaroon_root_key=first))
    assert derived_keys(rotated) == derived_keys(Settings(macaroon_root_key=second))


@pytest.mark.parametrize(
    ("key", "previous", "variables"),
    [
        (ONE, TWO, []),
        (None, TWO, ["MACAROON_ROOT_KEY"]),
        (ONE, ONE, ["MACAROON_ROOT_KEY_PREVIOUS"]),
    ],
)
def test_keys_that_make_no_sense_together_are_told(key: str | None, previous: str, variables: list[str]) -> None:
    settings = Settings(
        macaroon_root_key=None if key is None else SecretStr(key), macaroon_root_key_previous=SecretStr(previous)
    )
    assert [problem.variable for problem in problems(settings)] == variables
