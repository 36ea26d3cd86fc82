"""The start: all that forbids it is one list, and nothing is sent to an address that is refused."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.adapters.lightning.backend import Probed
from satmeter.config.problem import Problem
from satmeter.config.settings import Settings
from satmeter.scripts.preflight import start_checks


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the parts that were asked; each has a problem."""
    names: list[str] = []

    def answers(name: str, variable: str) -> Any:
        async def ask(_settings: Settings) -> list[Problem]:
            names.append(name)
            return [Problem(variable, f"{name} says so.")]

        return ask

    async def wallet(_settings: Settings) -> Probed:
        names.append("wallet")
        return Probed([Problem("LNBITS_ADMIN_KEY", "wallet says so.")], [Problem("LNBITS_URL", "It is little.")])

    monkeypatch.setattr(start_checks, "store_problems", answers("store", "REDIS_URL"))
    monkeypatch.setattr(start_checks, "older_store_problems", answers("age", "REDIS_URL"))
    monkeypatch.setattr(start_checks, "probed_wallet", wallet)
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    return names


WALLET = {"LNBITS_URL": "https://lnbits.example", "LNBITS_INVOICE_KEY": "a", "LNBITS_ADMIN_KEY": "b"}


async def test_settings_store_and_wallet_are_one_list(asked: list[str]) -> None:
    values: dict[str, Any] = {**WALLET, "SATMETER_ENV": "production", "REDIS_URL": "redis://127.0.0.1:1"}
    found, warnings = await start_checks.start_problems(Settings(**values), [Problem("SATMETER_PORT", "x.")])
    assert [problem.variable for problem in found] == [
        "SATMETER_PORT", "ANTHROPIC_API_KEY", "MACAROON_ROOT_KEY", "OPERATOR_TOKEN", "REDIS_URL", "LNBITS_ADMIN_KEY",
    ]  # fmt: skip
    assert warnings == [] and asked == ["store", "wallet"]


async def test_no_key_goes_to_an_address_that_is_refused(asked: list[str]) -> None:
    values: dict[str, Any] = {
        **WALLET,
        "SATMETER_ENV": "production",
        "LNBITS_URL": "http://lnbits.example",
        "REDIS_URL": "redis://:password@store.example",
    }
    found, _ = await start_checks.start_problems(Settings(**values))
    assert {"REDIS_URL", "LNBITS_URL"} <= {problem.variable for problem in found}
    assert asked == []


async def test_development_starts_with_what_is_wrong_about_the_wallet_as_a_warning(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def well(_settings: Settings) -> list[Problem]:
        return []

    monkeypatch.setattr(start_checks, "store_problems", well)
    monkeypatch.setattr(start_checks, "older_store_problems", well)
    values: dict[str, Any] = WALLET
    found, warnings = await start_checks.start_problems(Settings(**values))
    assert found == [] and [warning.variable for warning in warnings] == ["LNBITS_ADMIN_KEY", "LNBITS_URL"]


@pytest.mark.parametrize("away", [True, False])
async def test_production_waits_for_a_wallet_that_is_away_and_refuses_one_that_has_no_right(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """The address of this wallet is its key, too: a problem of it may be that the wallet is away, or that it lacks."""

    async def probed(_settings: Settings) -> Probed:
        return Probed([Problem("NWC_URL", "No.")], away=away)

    monkeypatch.setattr(start_checks, "probed_wallet", probed)
    url = f"nostr+walletconnect://{'ab' * 32}?relay=wss://relay.example&secret={'cd' * 32}"
    values: dict[str, Any] = {"NWC_URL": url, "SATMETER_ENV": "production"}
    found, _ = await start_checks.start_problems(Settings(**values))
    assert ("NWC_URL" in {problem.variable for problem in found}) is not away


async def unasked(_settings: Settings) -> Probed:
    return Probed()


async def test_a_store_that_went_back_is_in_the_list_unless_the_operator_takes_it(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def well(_settings: Settings) -> list[Problem]:
        return []

    monkeypatch.setattr(start_checks, "store_problems", well)
    monkeypatch.setattr(start_checks, "probed_wallet", unasked)
    monkeypatch.setattr(start_checks, "store_warnings", well)
    found, _ = await start_checks.start_problems(Settings())
    assert [problem.message for problem in found] == ["age says so."]
    assert await start_checks.start_problems(Settings(), accept_loss=True) == ([], [])
