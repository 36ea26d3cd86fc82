"""The table of Lightning backends: one is chosen, and what it lacks is said."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.adapters.lightning_backends import BACKENDS, backend_of, choice_problems
from satmeter.config.lightning_kind import LightningKind
from satmeter.config.named_settings import secret_of
from satmeter.config.secret_names import SECRETS
from satmeter.config.settings import Settings

WHOLE: dict[LightningKind, dict[str, str]] = {
    LightningKind.LNBITS: {
        "LNBITS_URL": "http://127.0.0.1:1", "LNBITS_INVOICE_KEY": "invoice-key", "LNBITS_ADMIN_KEY": "admin-key",
    },
    LightningKind.LND: {"LND_REST_URL": "https://127.0.0.1:1", "LND_MACAROON": "02ff"},
    LightningKind.PHOENIXD: {"PHOENIXD_URL": "http://127.0.0.1:1", "PHOENIXD_PASSWORD": "password"},
    LightningKind.NWC: {"NWC_URL": f"nostr+walletconnect://{'ab' * 32}?relay=wss://relay.example&secret={'cd' * 32}"},
    LightningKind.STUB: {},
}  # fmt: skip
REAL = [kind for kind in BACKENDS if kind is not LightningKind.STUB]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def settings(*values: dict[str, str], **more: Any) -> Settings:
    return Settings.model_validate({name: text for each in values for name, text in each.items()} | more)


def told(of: Settings) -> list[tuple[str, str]]:
    return [(problem.variable, problem.message) for problem in choice_problems(of)]


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_backend_is_used_whose_settings_are_there_and_by_its_name(kind: LightningKind) -> None:
    for chosen in ({}, {"SATMETER_LIGHTNING": kind.value}):
        of = settings(WHOLE[kind], chosen)
        assert backend_of(of).kind is kind and told(of) == [] and backend_of(of).can_pay(of)


@pytest.mark.parametrize("kind", REAL)
def test_the_name_counts_more_than_the_settings(kind: LightningKind) -> None:
    of = settings(WHOLE[kind], SATMETER_LIGHTNING="stub")
    assert backend_of(of).stub and told(of) == []


@pytest.mark.parametrize("kind", REAL)
def test_a_name_whose_settings_lack_says_which(kind: LightningKind) -> None:
    of = settings(SATMETER_LIGHTNING=kind.value)
    assert told(of) == [
        (name, f"SATMETER_LIGHTNING is {kind.value}: set {name}, too.") for name in BACKENDS[kind].needed
    ]


@pytest.mark.parametrize("kind", REAL)
def test_settings_in_part_say_what_is_missing(kind: LightningKind) -> None:
    for variable, sentence in BACKENDS[kind].needed.items():
        part = {name: text for name, text in WHOLE[kind].items() if name != variable}
        if part:
            assert told(settings(part)) == [(variable, sentence)]


def test_two_backends_without_a_choice_are_an_error_with_its_remedy() -> None:
    for kind in REAL:
        for other in REAL:
            if kind is not other:
                ((variable, message),) = told(settings(WHOLE[kind], WHOLE[other]))
                assert variable == "SATMETER_LIGHTNING" and "set SATMETER_LIGHTNING to" in message
                assert f"`{kind.value}`" in message and f"`{other.value}`" in message
                assert told(settings(WHOLE[kind], WHOLE[other], SATMETER_LIGHTNING=other.value)) == []


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_row_is_sound(kind: LightningKind) -> None:
    row = BACKENDS[kind]
    names = {str(field.validation_alias) for field in Settings.model_fields.values()}
    of = settings(WHOLE[kind])
    assert set(row.variables) <= names and set(row.needed) <= set(row.variables)
    assert set(WHOLE[kind]) <= set(row.variables) and row.title and row.given(of) == list(WHOLE[kind])
    secrets = {name for name in row.variables if secret_of(of, name) is not None}
    assert secrets <= set(SECRETS)
    assert {row.pays_with, row.asks_with} - {None} <= secrets
    # A key that hosts hold must not be the one that spends.
    assert row.asks_with is None or row.asks_with != row.pays_with
    assert set(row.unusable) <= set(row.troubles)
    assert all(sentence.endswith(".") for sentence in (*row.troubles.values(), *row.needed.values()))
    place = row.place(of)
    assert not any(WHOLE[kind][name] in place for name in secrets)
