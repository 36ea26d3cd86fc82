"""The probe of a wallet: what is wrong is said with its remedy, and what a wallet can't tell is said, too."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest

from satmeter.actors.adapters.lightning.backend import Probed
from satmeter.actors.adapters.nwc.probe import TROUBLES, probe
from satmeter.actors.adapters.nwc.rights import RightsTrouble
from satmeter.config.settings import Settings
from tests.lightning.stand_ins.nwc.books import Row, shown
from tests.lightning.stand_ins.nwc.relay import RelayProcess
from tests.lightning.stand_ins.nwc.wallet import METHODS, Manners, NwcWallet

MADE = "A test invoice over 1 sat was made and found again."
UNTOLD = "Nostr Wallet Connect does not tell how much"


async def probed(url: str, *, may_order: bool = True) -> Probed:
    settings = Settings(**cast(Any, {"NWC_URL": url, "SATMETER_LIGHTNING_TIMEOUT_S": 0.5}))
    return await probe(settings, cast(Any, None), may_order=may_order)


async def probed_wallet(
    relay: RelayProcess, *, budget_sats: int = 0, spent_sats: int = 0, may_order: bool = True, **manners: Any
) -> tuple[Probed, NwcWallet]:
    wallet = NwcWallet((relay.url,), manners=Manners(**{"network": "mainnet", **manners}))
    wallet.books.budget_msat, wallet.books.spent_msat = budget_sats * 1_000, spent_sats * 1_000
    await wallet.start()
    try:
        return await probed(wallet.url(), may_order=may_order), wallet
    finally:
        await wallet.stop()


async def test_a_wallet_that_serves_proves_it(nostr_relay: RelayProcess) -> None:
    found, wallet = await probed_wallet(nostr_relay)
    assert (list(found.problems), list(found.warnings), found.away) == ([], [], False)
    assert found.proofs[:2] == [MADE, "It can pay out up to 10,000 sats; the connection has no budget of its own."]
    assert found.proofs[2].startswith(UNTOLD)
    assert len(wallet.books.rows) == 1
    assert not wallet.books.orders


@pytest.mark.parametrize("missing", [method for method in METHODS if method not in ("get_info", "pay_invoice")])
async def test_a_right_that_only_the_question_shows_to_be_missing_is_named(
    nostr_relay: RelayProcess, missing: str
) -> None:
    allowed = tuple(method for method in METHODS if method not in ("get_info", missing))
    found, _ = await probed_wallet(nostr_relay, allowed=allowed)
    (problem,) = found.problems
    assert problem.message == TROUBLES[RightsTrouble(f"no_{missing}")]


async def test_no_invoice_is_made_where_none_may_be_ordered(nostr_relay: RelayProcess) -> None:
    found, wallet = await probed_wallet(nostr_relay, may_order=False)
    assert not found.problems
    assert MADE not in found.proofs
    assert not wallet.books.rows


async def test_the_budget_is_told(nostr_relay: RelayProcess) -> None:
    methods = (*METHODS, "get_budget")
    found, _ = await probed_wallet(nostr_relay, budget_sats=3_000, spent_sats=1_000, methods=methods)
    text = (
        "It can pay out up to 2,000 sats: the connection has a monthly budget of 3,000 sats, of which 2,000 are left."
    )
    assert text in found.proofs


@pytest.mark.parametrize("method", [method for method in METHODS if method != "get_info"])
async def test_a_right_that_is_missing_is_a_problem_with_its_name(nostr_relay: RelayProcess, method: str) -> None:
    found, _ = await probed_wallet(nostr_relay, methods=tuple(each for each in METHODS if each != method))
    (problem,) = found.problems
    assert problem.variable == "NWC_URL"
    assert f"({method})" in problem.message
    assert not found.away


@pytest.mark.parametrize(
    ("manners", "words"),
    [
        ({"methods": (*METHODS, "create_connection")}, "(create_connection)"),
        ({"pushes": False}, "no news of payments"),
        ({"network": "signet"}, "on signet"),
        ({"show": lambda row: {**shown(row), "state": None}}, "tells no states"),
    ],
)
async def test_what_is_odd_is_a_warning(nostr_relay: RelayProcess, manners: dict[str, Any], words: str) -> None:
    found, _ = await probed_wallet(nostr_relay, **manners)
    (warning,) = found.warnings
    assert words in warning.message
    assert not found.problems


def forgetful(row: Row) -> dict[str, Any]:
    from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
    from satmeter.actors.domain.money import Msat

    text = sign_invoice(
        "22" * 32,
        payment_hash=row.payment_hash,
        payment_secret="33" * 32,
        amount_msat=Msat(row.amount),
        memo="",
        at_s=row.created_at,
        expiry_s=60,
    )
    return {**shown(row), "invoice": text}


@pytest.mark.parametrize(
    ("manners", "words"),
    [
        ({"show": forgetful}, "does not keep descriptions"),
        ({"show": lambda row: {**shown(row), "state": "settled"}}, "does not find the invoice"),
        ({"show": lambda row: {**shown(row), "state": "odd"}}, "does not find the invoice"),
    ],
)
async def test_a_wallet_that_cannot_be_used_is_a_problem(
    nostr_relay: RelayProcess, manners: dict[str, Any], words: str
) -> None:
    found, _ = await probed_wallet(nostr_relay, **manners)
    (problem,) = found.problems
    assert words in problem.message
    assert problem.message[0].isupper() and problem.message.endswith(".")
    assert not found.away


@pytest.mark.parametrize("manners", [{"hears_nothing": True}, {"is_rubbish": True}])
async def test_a_wallet_that_is_away_is_one_to_wait_for(nostr_relay: RelayProcess, manners: dict[str, Any]) -> None:
    found, _ = await probed_wallet(nostr_relay, **manners)
    (problem,) = found.problems
    assert "can't be asked" in problem.message
    assert nostr_relay.url in problem.message
    assert found.away


async def test_a_relay_that_is_away_is_one_to_wait_for() -> None:
    found = await probed(f"nostr+walletconnect://{'ab' * 32}?relay=ws://127.0.0.1:9&secret={'cd' * 32}")
    (problem,) = found.problems
    assert "no relay" in problem.message
    assert "cd" * 32 not in problem.message
    assert found.away


@pytest.mark.parametrize("url", ["nonsense", f"nostr+walletconnect://{'ab' * 32}?secret={'cd' * 32}"])
async def test_an_address_that_cannot_be_read_says_why(url: str) -> None:
    found = await probed(url)
    (problem,) = found.problems
    assert "can't be read" in problem.message
    assert "cd" * 32 not in problem.message
    assert not found.away


async def test_a_missing_library_says_what_to_install(
    nostr_relay: RelayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = NwcWallet((nostr_relay.url,)).url()
    monkeypatch.setitem(sys.modules, "nostr_sdk", None)
    (problem,) = (await probed(url)).problems
    assert "pip install 'satmeter[nwc]'" in problem.message
