"""The exchange with a wallet over real relays: which answer counts, what is sent once, and what is seen of a loss."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import nostr_sdk
import pytest

from satmeter.actors.adapters.nwc.exchange import Answer, Exchange, Notice, WalletError
from satmeter.actors.adapters.nwc.nostr import RawEvent
from satmeter.actors.ports import PermanentError, TransientError
from tests.lightning.stand_ins.nwc.books import foreign_invoice
from tests.lightning.stand_ins.nwc.cable import Cable
from tests.lightning.stand_ins.nwc.relay import RelayProcess, running_relay
from tests.lightning.stand_ins.nwc.wallet import Manners, NwcWallet
from tests.lightning.waiting import soon
from tests.lightning.world import FUNDS_SATS, Fate

TIMEOUT_S = 0.5
BALANCE = {"balance": FUNDS_SATS * 1_000}


@asynccontextmanager
async def wallet_at(*relays: str, **manners: Any) -> AsyncIterator[NwcWallet]:
    wallet = NwcWallet(relays, manners=Manners(**manners))
    await wallet.start()
    try:
        yield wallet
    finally:
        await wallet.stop()


@asynccontextmanager
async def exchange_with(wallet: NwcWallet, *relays: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Exchange]:
    exchange = Exchange(wallet.url(*relays), timeout_s=timeout_s)
    try:
        yield exchange
    finally:
        await exchange.close()


@asynccontextmanager
async def cable_to(relay: str) -> AsyncIterator[Cable]:
    cable = Cable(relay)
    await cable.plug()
    try:
        yield cable
    finally:
        await cable.unplug()


async def test_a_question_is_answered(nostr_relay: RelayProcess) -> None:
    async with wallet_at(nostr_relay.url) as wallet, exchange_with(wallet) as exchange:
        assert await exchange.ask("get_balance", {}) == Answer(result=BALANCE)
        error = (await exchange.ask("sign_message", {})).error
        assert error is not None
        assert error.code == "RESTRICTED"


@pytest.mark.parametrize(
    ("offered", "named", "used"),
    [
        (("nip44_v2", "nip04"), True, "nip44_v2"),
        (("nip44_v2",), True, "nip44_v2"),
        (("nip04",), True, "nip04"),
        (("nip04",), False, "nip04"),
    ],
)
async def test_the_best_encryption_that_the_wallet_names_is_used(
    nostr_relay: RelayProcess, offered: tuple[str, ...], named: bool, used: str
) -> None:
    manners = {"encryptions": offered, "names_encryptions": named}
    async with wallet_at(nostr_relay.url, **manners) as wallet, exchange_with(wallet) as exchange:
        assert (await exchange.ask("get_balance", {})).result == BALANCE
        assert ["encryption", used] in wallet.requests[-1]["tags"]


async def test_a_wallet_that_names_no_encryption_and_cannot_read_the_old_one_is_asked_in_the_new(
    nostr_relay: RelayProcess,
) -> None:
    manners = {"encryptions": ("nip44_v2",), "names_encryptions": False}
    async with wallet_at(nostr_relay.url, **manners) as wallet, exchange_with(wallet) as exchange:
        with pytest.raises(TransientError, match="could not read get_balance"):
            await exchange.ask("get_balance", {})
        assert (await exchange.ask("get_balance", {})).result == BALANCE


async def test_answers_twice_from_strangers_and_for_other_requests_change_nothing(nostr_relay: RelayProcess) -> None:
    manners = {"answers_twice": True, "is_forged_first": True}
    async with wallet_at(nostr_relay.url, **manners) as wallet, exchange_with(wallet) as exchange:
        for _ in range(3):
            assert (await exchange.ask("get_balance", {})).result == BALANCE
        assert len(wallet.requests) == 3


async def test_a_late_answer_is_not_that_of_the_next_question(nostr_relay: RelayProcess) -> None:
    async with wallet_at(nostr_relay.url) as wallet, exchange_with(wallet) as exchange:
        wallet.manners.slow_s = TIMEOUT_S * 1.5
        with pytest.raises(TransientError, match="in time"):
            await exchange.ask("get_balance", {})
        wallet.manners.slow_s = 0
        assert (await exchange.ask("get_info", {})).result["alias"] == "stand-in"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("<html>", "rubbish"),
        ("[]", "rubbish"),
        ('{"result_type":"get_info","result":{"balance":5}}', "another method"),
        ('{"result":{"balance":5}}', "another method"),
        ('{"result_type":"get_info","error":{"code":"OTHER","message":"x"}}', "another method"),
        ('{"result_type":"get_balance","error":"no"}', "rubbish"),
    ],
)
async def test_an_answer_that_does_not_fit_is_not_one(nostr_relay: RelayProcess, answer: str, words: str) -> None:
    async with wallet_at(nostr_relay.url, hears_nothing=True) as wallet, exchange_with(wallet) as exchange:
        asked = asyncio.create_task(exchange.ask("get_balance", {}))
        await answered(wallet, exchange, answer)
        with pytest.raises(TransientError, match=words):
            await asked


async def test_an_error_without_a_method_is_an_answer(nostr_relay: RelayProcess) -> None:
    async with wallet_at(nostr_relay.url, hears_nothing=True) as wallet, exchange_with(wallet) as exchange:
        asked = asyncio.create_task(exchange.ask("get_balance", {}))
        await answered(wallet, exchange, '{"error":{"code":"OTHER"}}')
        assert (await asked).error == WalletError("OTHER", None)


async def test_an_error_whose_code_is_called_its_type_is_read(nostr_relay: RelayProcess) -> None:
    told = '{"result_type":"get_balance","error":{"type":"NOT_FOUND","message":"no such payment"},"result":null}'
    async with wallet_at(nostr_relay.url, hears_nothing=True) as wallet, exchange_with(wallet) as exchange:
        asked = asyncio.create_task(exchange.ask("get_balance", {}))
        await answered(wallet, exchange, told)
        assert (await asked).error == WalletError("NOT_FOUND", "no such payment")


async def answered(wallet: NwcWallet, exchange: Exchange, text: str) -> None:
    await soon(lambda: bool(exchange._pending))
    (request_id,) = exchange._pending
    await wallet.publish(wallet._event(23195, text, "nip44_v2", [["e", request_id]]))


async def test_a_relay_that_is_lost_ends_the_wait_at_once_and_the_next_question_finds_it(
    nostr_relay: RelayProcess,
) -> None:
    async with (
        wallet_at(nostr_relay.url) as wallet,
        cable_to(nostr_relay.url) as cable,
        exchange_with(wallet, cable.url, timeout_s=60) as exchange,
    ):
        assert (await exchange.ask("get_balance", {})).result == BALANCE
        wallet.cut = cable.cut
        wallet.books.fates.append(Fate.NOT_RECEIVED)
        with pytest.raises(TransientError, match="connection broke"):
            await exchange.ask("pay_invoice", {"invoice": "x"}, is_order=True)
        assert (await exchange.ask("get_balance", {})).result == BALANCE
        await cable.unplug()
        with pytest.raises(TransientError, match="relay"):
            await exchange.ask("get_balance", {})
        await cable.plug()
        assert (await exchange.ask("get_balance", {})).result == BALANCE


async def test_an_order_is_one_event_for_all_relays_and_lapses(nostr_relay: RelayProcess) -> None:
    with running_relay() as other:
        relays = (nostr_relay.url, other.url)
        async with wallet_at(*relays) as wallet, exchange_with(wallet) as exchange:
            target = foreign_invoice(100, int(wallet.clock_s()))
            answer = await exchange.ask("pay_invoice", {"invoice": target.payment_request}, is_order=True)
            assert answer.result["fees_paid"] == 1_000
            assert wallet.books.orders[target.payment_hash] == 1
            assert len({request["id"] for request in wallet.requests}) == 1
            (lapses,) = [tag[1] for tag in wallet.requests[0]["tags"] if tag[0] == "expiration"]
            assert 60 < int(lapses) - wallet.clock_s() < 300


async def test_one_relay_of_two_is_enough_and_an_order_is_not_sent_to_the_other_one_later(
    nostr_relay: RelayProcess,
) -> None:
    async with AsyncExitStack() as stack:
        cables = [await stack.enter_async_context(cable_to(nostr_relay.url)) for _ in range(2)]
        wallet = await stack.enter_async_context(wallet_at(nostr_relay.url, hears_nothing=True))
        exchange = await stack.enter_async_context(exchange_with(wallet, *(cable.url for cable in cables)))
        await exchange.info()
        await soon(lambda: all(relay.is_ready for relay in exchange._relays))
        await cables[1].unplug()
        await soon(lambda: not exchange._relays[1].is_ready)
        with pytest.raises(TransientError, match="in time"):
            await exchange.ask("pay_invoice", {"invoice": "x"}, is_order=True)
        wallet.manners.hears_nothing = False
        await cables[1].plug()
        await soon(lambda: exchange._relays[1].is_ready)
        assert (await exchange.ask("get_balance", {})).result == BALANCE
        assert len({request["id"] for request in wallet.requests}) == 1, "the order came once more"


async def test_it_is_known_over_which_relays_the_wallet_speaks(nostr_relay: RelayProcess) -> None:
    with running_relay() as other:
        async with wallet_at(nostr_relay.url) as wallet, exchange_with(wallet, nostr_relay.url, other.url) as exchange:
            before_s = exchange._monotonic_s()
            await exchange.ask("get_balance", {})
            assert not exchange.seen_everywhere_since(before_s)
        async with wallet_at(nostr_relay.url, other.url) as wallet, exchange_with(wallet) as exchange:
            before_s = exchange._monotonic_s()
            await exchange.ask("get_balance", {})
            await soon(lambda: exchange.seen_everywhere_since(before_s))
            assert not exchange.seen_everywhere_since(exchange._monotonic_s())


async def test_what_a_relay_gives_out_again_is_not_the_wallets_voice(nostr_relay: RelayProcess) -> None:
    """A relay may keep an order back: a payment that the wallet may still make must not be taken for one never made."""
    with running_relay() as other:
        async with wallet_at(nostr_relay.url) as wallet, exchange_with(wallet, nostr_relay.url, other.url) as exchange:
            await exchange.ask("get_balance", {})
            before_s = exchange._monotonic_s()
            # The wallet is not at the other relay any more, which has kept what it said there.
            old = wallet._event(23195, "{}", "nip44_v2", [["e", wallet.requests[0]["id"]]])
            notice = wallet._event(23197, "{}", "nip44_v2", [])
            await exchange.ask("get_balance", {})
            for event in (old, notice):
                exchange.came(exchange._relays[1], msgspec.convert(event, RawEvent))
            assert not exchange.seen_everywhere_since(before_s)
            # An answer to a question of later on shows that it is there again, also where another relay was quicker.
            new = wallet._event(23195, "{}", "nip44_v2", [["e", wallet.requests[1]["id"]]])
            exchange.came(exchange._relays[1], msgspec.convert(new, RawEvent))
            assert exchange.seen_everywhere_since(before_s)


async def test_what_a_relay_refuses_is_told_with_its_reason(nostr_relay: RelayProcess) -> None:
    async with wallet_at(nostr_relay.url) as wallet:
        exchange = Exchange(wallet.url(), timeout_s=TIMEOUT_S, clock_s=lambda: 1_000_000_000)
        # An order of long ago: this relay takes no events that have lapsed.
        with pytest.raises(TransientError, match=r"the relay refused: .*expired"):
            await exchange.ask("pay_invoice", {"invoice": "x"}, is_order=True)
        await exchange.close()


@pytest.mark.parametrize("encryption", ["nip04", "nip44_v2"])
async def test_notifications_come_in_either_encryption(nostr_relay: RelayProcess, encryption: str) -> None:
    async with wallet_at(nostr_relay.url, encryptions=(encryption,)) as wallet, exchange_with(wallet) as exchange:
        heard: list[Notice] = []
        task = asyncio.create_task(listen(exchange, heard))
        await soon(lambda: bool(exchange._listeners))
        await wallet.publish(wallet._event(23196, "<html>", encryption, []))
        stranger = nostr_sdk.Keys.generate()
        await wallet.publish(wallet._event(23196, '{"notification_type":"forged"}', encryption, [], signer=stranger))
        await wallet.push("payment_received", {"payment_hash": "ab" * 32})
        await soon(lambda: bool(heard))
        assert heard == [Notice("payment_received", {"payment_hash": "ab" * 32})]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_listeners_are_told_when_notifications_may_have_been_missed(nostr_relay: RelayProcess) -> None:
    async with (
        wallet_at(nostr_relay.url) as wallet,
        cable_to(nostr_relay.url) as cable,
        exchange_with(wallet, cable.url) as exchange,
    ):
        task = asyncio.create_task(listen(exchange, []))
        await soon(lambda: bool(exchange._listeners))
        cable.cut()
        with pytest.raises(TransientError, match="missed"):
            await task
        assert not exchange._listeners


async def listen(exchange: Exchange, heard: list[Notice]) -> None:
    async for notice in exchange.notices():
        heard += [notice]


async def test_closing_ends_every_wait(nostr_relay: RelayProcess) -> None:
    async with (
        wallet_at(nostr_relay.url, hears_nothing=True) as wallet,
        exchange_with(wallet, timeout_s=60) as exchange,
    ):
        asked = asyncio.create_task(exchange.ask("get_balance", {}))
        await soon(lambda: bool(exchange._pending))
        await exchange.close()
        with pytest.raises(TransientError):
            await asked
        assert not exchange._pending


async def test_neither_secret_nor_request_is_in_an_error_or_a_log(
    nostr_relay: RelayProcess, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with wallet_at(nostr_relay.url, hears_nothing=True) as wallet, exchange_with(wallet) as exchange:
        with pytest.raises(TransientError) as caught:
            await exchange.ask("pay_invoice", {"invoice": "lnbc1secret"}, is_order=True)
        said = str(caught.value) + caplog.text + "".join(capsys.readouterr()) + repr(exchange)
        assert wallet.client.secret_key().to_hex() not in said
        assert "lnbc1secret" not in said


async def test_a_relay_s_store_does_not_answer_for_the_wallet(nostr_relay: RelayProcess) -> None:
    """Answers to earlier requests are played again: their requests are over, and the wallet was not asked."""
    async with wallet_at(nostr_relay.url) as wallet, exchange_with(wallet) as exchange:
        await exchange.ask("get_balance", {})
        old = [
            wallet._event(23195, json.dumps({"result_type": "get_balance", "result": {"balance": 1}}), "nip44_v2", tags)
            for tags in ([["e", wallet.requests[0]["id"]]], [])
        ]
        wallet.manners.hears_nothing = True
        asked = asyncio.create_task(exchange.ask("get_balance", {}))
        await soon(lambda: bool(exchange._pending))
        for event in old:
            await wallet.publish(event)
        with pytest.raises(TransientError, match="in time"):
            await asked


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://wallet.example", "NWC_URL can't be read"),
        (f"nostr+walletconnect://{'ff' * 32}?relay=wss://relay.example&secret={'cd' * 32}", "a key that is not valid"),
    ],
)
async def test_an_address_that_cannot_be_used_is_told_by_each_question_and_not_before(url: str, words: str) -> None:
    exchange = Exchange(url, timeout_s=TIMEOUT_S)
    for _ in range(2):
        with pytest.raises(PermanentError, match=words):
            await exchange.ask("get_balance", {})
        with pytest.raises(PermanentError, match=words):
            await exchange.info()
    await exchange.close()
