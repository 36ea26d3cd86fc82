"""Which process holds which secret."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from satmeter.actors.adapters.lightning_backends import backend_of
from satmeter.actors.bootstrap import build_parts, has_provider
from satmeter.actors.catalogue.loading import upstream_keys
from satmeter.actors.services.wallet_desk import TreasuryWallet
from satmeter.config.held_secrets import ElsewhereError, Role, held, is_here, only_for, secrets_for, without_secrets
from satmeter.config.secret_names import SECRETS
from satmeter.config.settings import Settings
from satmeter.scripts.server.secret_server import handout_for

ROOT_KEY, PREVIOUS = "5a" * 32, "3c" * 32
VALUES = {
    "REDIS_URL": "redis://:store-password@127.0.0.1:1",
    "LNBITS_INVOICE_KEY": "invoice-key-1234",
    "LNBITS_ADMIN_KEY": "admin-key-1234",
    "LND_MACAROON": "02010f6c6e64",
    "PHOENIXD_PASSWORD": "phoenixd-password-1234",
    "NWC_URL": "nostr+walletconnect://wallet-secret-1234",
    "ANTHROPIC_API_KEY": "provider-key-1234",
    "MACAROON_ROOT_KEY": ROOT_KEY,
    "MACAROON_ROOT_KEY_PREVIOUS": PREVIOUS,
    "OPERATOR_TOKEN": "operator-token-1234",
}
HELD = {
    Role.FRONT: {"REDIS_URL", "OPERATOR_TOKEN"},
    Role.HOST: {"REDIS_URL", "LNBITS_INVOICE_KEY", "ANTHROPIC_API_KEY"},
    Role.TREASURY: {
        "REDIS_URL",
        "LNBITS_INVOICE_KEY",
        "LNBITS_ADMIN_KEY",
        "LND_MACAROON",
        "PHOENIXD_PASSWORD",
        "NWC_URL",
    },
    Role.ORACLE: {"REDIS_URL", "ANTHROPIC_API_KEY"},
}


def whole(**more: Any) -> Settings:
    chosen = {"SATMETER_LIGHTNING": "lnbits", "LNBITS_URL": "https://lnbits.example"}
    return Settings.model_validate({**VALUES, **chosen, **more})


def found_in(data: bytes) -> set[str]:
    return {name for name, value in VALUES.items() if value.encode() in data}


def test_the_test_knows_all_secrets() -> None:
    assert set(VALUES) == set(SECRETS)


@pytest.mark.parametrize("role", list(Role))
def test_a_process_gets_what_its_work_needs_and_nothing_else(role: Role) -> None:
    assert found_in(pickle.dumps(only_for(whole(), role))) == HELD[role]
    assert found_in(repr(handout_for(whole(), role).settings).encode()) == HELD[role]
    assert found_in(pickle.dumps(handout_for(whole(), role))) == HELD[role]
    assert found_in(repr(handout_for(whole(), role)).encode()) == set()


def test_what_travels_by_ray_has_no_secret() -> None:
    values = without_secrets(whole())
    assert found_in(pickle.dumps(values)) == set()
    assert Settings(**values).lnbits_url == "https://lnbits.example"


def test_a_process_knows_of_secrets_that_it_does_not_hold_whether_they_are_set() -> None:
    front = only_for(whole(), Role.FRONT)
    assert backend_of(front).can_pay(front) and has_provider(front)
    assert not is_here(front.lnbits_admin_key) and is_here(front.operator_token)
    bare = only_for(Settings.model_validate({"LNBITS_URL": "https://lnbits.example"}), Role.FRONT)
    assert not backend_of(bare).can_pay(bare) and not has_provider(bare)


def test_a_secret_that_is_elsewhere_is_never_used_as_one() -> None:
    front = only_for(whole(), Role.FRONT)
    for use in (lambda: held(front.lnbits_admin_key), lambda: upstream_keys(front), lambda: build_parts(front)):
        with pytest.raises(ElsewhereError):
            use()
    assert held(None) is None and held(SecretStr("here")) == "here"


async def test_the_wallet_of_a_process_without_the_admin_key_is_the_treasurys() -> None:
    class Treasury:
        async def ask(self, question: bytes) -> bytes:
            raise AssertionError("no wallet is asked before it is used")

    for role in (Role.FRONT, Role.HOST, Role.ORACLE):
        parts = build_parts(only_for(whole(), role), Treasury())
        assert isinstance(parts.lightning, TreasuryWallet)
        await parts.close()


def test_keys_of_a_models_file_go_to_the_processes_that_ask_providers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", "local-key-1234")
    path = tmp_path / "models.toml"
    path.write_text(
        '[[upstreams]]\nname = "local"\napi = "openai"\nbase_url = "http://127.0.0.1:1/v1"\nkey_env = "LOCAL_KEY"\n'
        '[models.small]\nupstream = "local"\ninput = "1"\noutput = "2"\ncache_read = "1"\n'
        'cache_write_5m = "1"\ncache_write_1h = "1"\n'
    )
    settings = whole(SATMETER_MODELS_FILE=path)
    for role in Role:
        given = {"local": "local-key-1234"} if role in (Role.HOST, Role.ORACLE) else {}
        assert handout_for(settings, role).upstream_keys == given
        assert bool(handout_for(settings, role).webhook_keys) is (role is Role.HOST)


def test_root_keys_go_nowhere() -> None:
    for role in Role:
        secrets = secrets_for(whole(), role)
        assert secrets["macaroon_root_key"] is secrets["macaroon_root_key_previous"] is None
