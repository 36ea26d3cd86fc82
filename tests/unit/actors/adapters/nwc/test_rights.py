"""Rights of a connection: what it lacks, what it should not have, and what its budget is."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.adapters.nwc.exchange import Answer, Exchange, WalletError
from satmeter.actors.adapters.nwc.messages import Budget
from satmeter.actors.adapters.nwc.rights import Rights, RightsTrouble, budget_of, rights_of, rights_trouble
from satmeter.actors.ports import TransientError
from tests.lightning.stand_ins.nwc.relay import RelayProcess
from tests.lightning.stand_ins.nwc.wallet import METHODS, Manners, NwcWallet


async def rights(relay: RelayProcess, **manners: Any) -> Rights:
    wallet = NwcWallet((relay.url,), manners=Manners(**manners))
    await wallet.start()
    exchange = Exchange(wallet.url(), timeout_s=1)
    try:
        assert await rights_trouble(exchange) == (await rights_of(exchange)).trouble
        return await rights_of(exchange)
    finally:
        await exchange.close()
        await wallet.stop()


async def test_all_rights_that_are_needed_are_no_trouble(nostr_relay: RelayProcess) -> None:
    assert await rights(nostr_relay) == Rights(frozenset(METHODS), None, pushes=True, network="regtest")


@pytest.mark.parametrize(
    "method", ["make_invoice", "lookup_invoice", "list_transactions", "pay_invoice", "get_balance"]
)
async def test_a_right_that_is_missing_is_named(nostr_relay: RelayProcess, method: str) -> None:
    methods = tuple(each for each in METHODS if each != method)
    assert (await rights(nostr_relay, methods=methods)).trouble == RightsTrouble(f"no_{method}")


async def test_a_connection_that_makes_others_may_too_much(nostr_relay: RelayProcess) -> None:
    found = await rights(nostr_relay, methods=(*METHODS, "create_connection"))
    assert (found.trouble, found.excess) == (None, ["create_connection"])


async def test_a_wallet_that_does_not_push_is_told(nostr_relay: RelayProcess) -> None:
    assert not (await rights(nostr_relay, pushes=False)).pushes


@pytest.mark.parametrize(
    ("methods", "budget_msat", "budget"),
    [
        ((), 5_000_000, None),
        (("get_budget",), 0, None),
        (("get_budget",), 5_000_000, Budget(0, 5_000_000, "monthly")),
    ],
)
async def test_the_budget_is_told_where_the_wallet_tells_it(
    nostr_relay: RelayProcess, methods: tuple[str, ...], budget_msat: int, budget: Budget | None
) -> None:
    wallet = NwcWallet((nostr_relay.url,), manners=Manners(methods=(*METHODS, *methods)))
    wallet.books.budget_msat = budget_msat
    await wallet.start()
    exchange = Exchange(wallet.url(), timeout_s=1)
    assert await budget_of(exchange, await rights_of(exchange)) == budget
    await exchange.close()
    await wallet.stop()


class Told(Exchange):
    """An exchange whose answers are given."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def info(self) -> None:
        return None

    async def ask(self, method: str, params: object, *, is_order: bool = False) -> Answer:
        return self.answer


@pytest.mark.parametrize("code", ["UNAUTHORIZED", "EXPIRED"])
async def test_a_connection_that_the_wallet_does_not_know_is_told(code: str) -> None:
    assert await rights_trouble(Told(Answer(error=WalletError(code)))) is RightsTrouble.KEY_UNKNOWN


@pytest.mark.parametrize(
    "answer",
    [Answer(error=WalletError("RESTRICTED")), Answer(result={}), Answer(error=WalletError("INTERNAL")), Answer()],
)
async def test_a_wallet_that_does_not_say_is_asked_again(answer: Answer) -> None:
    with pytest.raises(TransientError):
        await rights_trouble(Told(answer))
