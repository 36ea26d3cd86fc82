"""LNURL-pay over real sockets: only the ordered invoice is taken, and nothing but the checked address is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from satmeter.actors.adapters.lnurl import exchange
from satmeter.actors.adapters.lnurl.exchange import LnurlExchange
from satmeter.actors.adapters.lnurl.pay import LnurlDestinations
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.destinations import DestinationFault, encoded, read_destination
from satmeter.actors.ports import DestinationError, TransientError
from satmeter.config.webhook_policy import Address, WebhookTargets
from tests.helpers.lnurl_servers import LnurlServer, Reply, invoice_of, lnurl_server
from tests.helpers.patience import PATIENCE_S
from tests.helpers.webhooks import serving

SATS_21 = Msat(21_000)


@asynccontextmanager
async def asking(*allowed: str, **options: Any) -> AsyncIterator[LnurlDestinations]:
    resolve_s = options.pop("resolve_s", 8.0)
    calls = LnurlExchange(WebhookTargets(allowed), **options)
    try:
        yield LnurlDestinations(calls, resolve_s=resolve_s)
    finally:
        await calls.close()


def at(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[Address]]]:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        return [ip_address(address) for address in addresses]

    return resolve


async def fault_of(server: LnurlServer, amount: Msat = SATS_21, network: str | None = "bcrt") -> DestinationError:
    async with asking("127.0.0.1") as destinations:
        with pytest.raises(DestinationError) as raised:
            await destinations.resolve(read_destination(server.address), amount, network)
    assert not raised.value.told.endswith(".")
    return raised.value


@pytest.mark.parametrize("hashed", [True, False])
async def test_an_address_and_a_code_give_an_invoice_over_exactly_the_sum(*, hashed: bool) -> None:
    async with lnurl_server() as server, asking("127.0.0.1") as destinations:
        server.hashed = hashed
        for text in (server.address, server.lnurl.upper()):
            target = await destinations.resolve(read_destination(text), SATS_21, "bcrt")
            assert target.payment_request == server.made[-1]
            assert target.payment_hash == read_invoice(server.made[-1]).payment_hash
            assert target.amount_msat == SATS_21
        assert server.asked == ["/.well-known/lnurlp/me", "/callback?id=7&amount=21000"] * 2
        assert set(server.hosts) == {f"127.0.0.1:{server.port}"}


async def test_a_callback_without_a_query_gets_one() -> None:
    async with lnurl_server() as server, asking("127.0.0.1") as destinations:
        server.callback = "/callback"
        await destinations.resolve(read_destination(server.address), SATS_21)
        assert server.asked[-1] == "/callback?amount=21000"


async def test_sums_beyond_its_bounds_are_told_with_the_bound_and_not_asked_for() -> None:
    async with lnurl_server() as server:
        server.least_msat, server.most_msat = 21_001, 50_000
        error = await fault_of(server)
        assert (error.fault, error.told) == (
            DestinationFault.AMOUNT_TOO_SMALL,
            "The destination takes at least 22 sats",
        )
        error = await fault_of(server, Msat(50_001))
        assert (error.fault, error.told) == (DestinationFault.AMOUNT_TOO_LARGE, "The destination takes at most 50 sats")
        assert all("callback" not in path for path in server.asked)


def with_another_end(payment_request: str) -> str:
    """Return an invoice whose checksum is wrong. Its last letter was any of bech32."""
    return payment_request[:-1] + ("p" if payment_request.endswith("q") else "q")


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (lambda amount: invoice_of(amount + 1), DestinationFault.WRONG_AMOUNT),
        (lambda amount: invoice_of(0), DestinationFault.INVALID_INVOICE),
        (lambda amount: invoice_of(amount, memo_hash="ab" * 32), DestinationFault.WRONG_DESCRIPTION),
        (lambda amount: invoice_of(amount, network="bc"), DestinationFault.WRONG_NETWORK),
        (lambda amount: invoice_of(amount, expiry_s=29), DestinationFault.INVALID_INVOICE),
        (lambda amount: invoice_of(amount, age_s=700), DestinationFault.INVALID_INVOICE),
        (lambda amount: with_another_end(invoice_of(amount)), DestinationFault.INVALID_INVOICE),
        (lambda amount: "", DestinationFault.INVALID_INVOICE),
        (lambda amount: "lnbc" * 5_000, DestinationFault.INVALID_INVOICE),
        (lambda amount: None, DestinationFault.NOT_LNURL),
        (lambda amount: 7, DestinationFault.NOT_LNURL),
    ],
)
async def test_an_invoice_over_something_else_is_refused(
    made: Callable[[int], object], fault: DestinationFault
) -> None:
    async with lnurl_server() as server:
        server.invoice = lambda amount: Reply({"pr": made(amount), "routes": []})
        assert (await fault_of(server)).fault is fault


async def test_without_a_network_none_is_compared() -> None:
    async with lnurl_server() as server, asking("127.0.0.1") as destinations:
        server.invoice = lambda amount: Reply({"pr": invoice_of(amount, network="bc")})
        assert (await destinations.resolve(read_destination(server.address), SATS_21)).amount_msat == SATS_21


OFFER = {"tag": "payRequest", "callback": "https://x.org/", "minSendable": 1, "maxSendable": 9**9, "metadata": "[]"}


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply({"status": "ERROR", "reason": "no such user"}), DestinationFault.NOT_FOUND),
        (Reply({"status": "error"}, "404 Not Found"), DestinationFault.NOT_FOUND),
        (Reply(b"<html>", "404 Not Found"), DestinationFault.NOT_FOUND),
        (Reply(b"<html>"), DestinationFault.NOT_LNURL),
        (Reply(b""), DestinationFault.NOT_LNURL),
        (Reply(b"{" * 100_000), DestinationFault.NOT_LNURL),
        (Reply(b'"' + b"x" * 300_000), DestinationFault.NOT_LNURL),
        (Reply(b"\xff\xfe"), DestinationFault.NOT_LNURL),
        (Reply([]), DestinationFault.NOT_LNURL),
        (Reply({}), DestinationFault.NOT_LNURL),
        (Reply({**OFFER, "tag": "withdrawRequest"}), DestinationFault.WRONG_KIND),
        (Reply({**OFFER, "minSendable": "1"}), DestinationFault.NOT_LNURL),
        (Reply({**OFFER, "maxSendable": 1e12}), DestinationFault.NOT_LNURL),
        (Reply({**OFFER, "maxSendable": 2**70}), DestinationFault.NOT_LNURL),
        (Reply({**OFFER, "metadata": [["text/plain", "x"]]}), DestinationFault.NOT_LNURL),
        (Reply({**OFFER, "callback": "http://x.org/"}), DestinationFault.NOT_PUBLIC),
        (Reply({**OFFER, "callback": "https://10.0.0.1/"}), DestinationFault.NOT_PUBLIC),
        (Reply({**OFFER, "callback": "https://x.org:8443/"}), DestinationFault.NOT_PUBLIC),
        (Reply({**OFFER, "callback": "https://x.org/" + "x" * 2_000}), DestinationFault.NOT_PUBLIC),
        (Reply({**OFFER, "callback": "file:///etc/passwd"}), DestinationFault.NOT_PUBLIC),
    ],
)
async def test_what_is_no_offer_is_told_by_name(reply: Reply, fault: DestinationFault) -> None:
    async with lnurl_server() as server:
        server.offer = lambda: reply
        assert (await fault_of(server)).fault is fault


async def test_what_a_server_says_is_shown_in_plain_letters_and_cut_off() -> None:
    async with lnurl_server() as server:
        server.offer = lambda: Reply({"status": "ERROR", "reason": "\x1b[31m<b>no user</b>\u202e\n" + "x" * 9_999})
        error = await fault_of(server)
        assert error.told.startswith("The destination can't be paid; its server says: 31m b no user /b xxx")
        assert len(error.told) < 200 and error.told.isprintable() and error.told.isascii()
        server.offer = None
        server.invoice = lambda amount: Reply({"status": "ERROR", "reason": "not today"})
        error = await fault_of(server)
        assert error.fault is DestinationFault.REFUSED
        assert error.told == "The destination makes no invoice over this sum; its server says: not today"


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Busy", "429 Too Many Requests", "408 Slow"])
async def test_what_may_pass_is_no_fault_of_the_destination(status: str) -> None:
    async with lnurl_server() as server, asking("127.0.0.1") as destinations:
        server.offer = lambda: Reply({"status": "ERROR", "reason": "later"}, status)
        with pytest.raises(TransientError):
            await destinations.resolve(read_destination(server.address), SATS_21)


async def test_a_server_that_is_away_or_says_nothing_may_come_back() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with lnurl_server() as server:
        gone = read_destination(server.address)
    async with asking("127.0.0.1", resolve_s=0.2) as destinations, serving(silent) as port:
        with pytest.raises(TransientError):
            await destinations.resolve(gone, SATS_21)
        with pytest.raises(TransientError, match="too long"):
            await destinations.resolve(read_destination(f"me@127.0.0.1:{port}"), SATS_21)


# Where it goes


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
async def test_a_domain_that_stands_for_an_inner_address_is_never_connected_to(address: str) -> None:
    async with asking(resolve=at("8.8.8.8", address)) as destinations:
        with pytest.raises(DestinationError) as raised:
            await destinations.resolve(read_destination("me@example.org"), SATS_21)
        assert raised.value.fault is DestinationFault.NOT_PUBLIC


@pytest.mark.parametrize("text", ["me@127.0.0.1:3000", "me@localhost:3000", "me@10.0.0.1", "me@example.org:8443"])
async def test_nothing_but_public_https_is_asked_unless_the_operator_allows_it(text: str) -> None:
    async with asking() as destinations:
        with pytest.raises(DestinationError) as raised:
            await destinations.resolve(read_destination(text), SATS_21)
        assert raised.value.fault is DestinationFault.NOT_PUBLIC


@pytest.mark.parametrize(
    ("location", "followed"),
    [
        ("/.well-known/lnurlp/me/", True),
        ("{base}/.well-known/lnurlp/me/", True),
        ("/.well-known/lnurlp/me/#x", True),
        ("https://example.org/.well-known/lnurlp/me", False),
        ("//example.org/", False),
        ("http://127.0.0.1:1/", False),
        ("http://10.0.0.1/", False),
        ("file:///etc/passwd", False),
        ("x", False),
        ("", False),
    ],
)
async def test_a_redirect_is_followed_within_its_host_alone(location: str, *, followed: bool) -> None:
    async with lnurl_server() as server:
        where = location.format(base=server.base)

        def offer() -> Reply:
            if len(server.asked) > 1:
                return Reply(server.offered())
            return Reply(b"moved", "302 Found", f"Location: {where}\r\n" if where else "")

        server.offer = offer
        if followed:
            async with asking("127.0.0.1") as destinations:
                await destinations.resolve(read_destination(server.address), SATS_21)
            assert server.asked[1].startswith("/.well-known/lnurlp/me/")
        else:
            assert (await fault_of(server)).fault is DestinationFault.REDIRECTED
            assert len(server.asked) == 1


async def test_redirects_without_end_are_given_up() -> None:
    async with lnurl_server() as server:
        server.offer = lambda: Reply(b"", "301 Moved", "Location: /.well-known/lnurlp/me\r\n")
        assert (await fault_of(server)).fault is DestinationFault.REDIRECTED
        assert len(server.asked) == 3


async def test_a_slow_host_takes_only_its_own_connections() -> None:
    entered = asyncio.Semaphore(0)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        entered.release()
        await reader.read()

    async with (
        serving(silent) as port,
        lnurl_server() as server,
        asking("slow.example", "127.0.0.1", resolve=at("127.0.0.1")) as destinations,
    ):
        slow = read_destination(encoded(f"http://slow.example:{port}/"))
        waiting = [asyncio.create_task(destinations.resolve(slow, SATS_21)) for _ in range(2 * exchange._CONNECTIONS)]
        for _ in range(exchange._PER_HOST):
            async with asyncio.timeout(PATIENCE_S):
                await entered.acquire()
        assert (await destinations.resolve(read_destination(server.address), SATS_21)).amount_msat == SATS_21
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
