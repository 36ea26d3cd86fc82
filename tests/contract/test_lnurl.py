"""Lightning addresses and links to withdraw by, with a real LNbits on the other side of each: as server, as wallet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.lnurl.exchange import LnurlExchange
from satmeter.actors.adapters.lnurl.pay import LnurlDestinations
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.destinations import DestinationFault, encoded, read_destination
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.payments.payouts import network_of
from satmeter.actors.ports import DestinationError
from satmeter.actors.router.router import Router
from satmeter.config.webhook_policy import WebhookTargets
from tests.helpers.hosts import World, until
from tests.helpers.http.fronts import Json, listening_publicly, make_app_state
from tests.helpers.patience import PATIENCE_S
from tests.lnbits.server import Lnbits, Wallet

ADDRESS = "anna"


class LnbitsWallet:
    """A wallet of LNbits, as its owner uses it."""

    def __init__(self, lnbits: Lnbits, keys: Wallet) -> None:
        self.keys = keys
        self._url = lnbits.url

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Api-Key": self.keys.admin_key}
        async with httpx.AsyncClient(base_url=self._url, timeout=PATIENCE_S, trust_env=False) as client:
            answer = await client.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def balance_msat(self) -> int:
        return int((await self.call("GET", "/api/v1/wallet"))["balance"])

    async def pay(self, payment_request: str) -> None:
        await self.call("POST", "/api/v1/payments", {"out": True, "bolt11": payment_request})


@dataclass
class Shop:
    """A server of ours on a socket, whose wallet is LNbits's, and what is beside it."""

    url: str
    router: Router
    lnbits: Lnbits
    payer: LnbitsWallet

    async def closed(self, path: str, body: Json) -> Json:
        """Opens a session with 1,000 sats, and closes it in this way."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, trust_env=False) as client:
            made = (await client.post("/sessions", json={"amountSats": 1_000})).json()
            deposit = made["depositInvoice"]
            await self.payer.pay(deposit["paymentRequest"])
            await self.router.call(made["sessionId"], Settle(deposit["paymentHash"], Msat.from_sats(1_000)))
            headers = {"Authorization": f"Bearer {made['macaroon']}"}
            answer = await client.post(f"/sessions/{made['sessionId']}{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return cast(Json, answer.json())


@asynccontextmanager
async def asking() -> AsyncIterator[LnurlDestinations]:
    exchange = LnurlExchange(WebhookTargets(["127.0.0.1"]))
    yield LnurlDestinations(exchange)
    await exchange.close()


@pytest_asyncio.fixture
async def shop(redis: Redis, lnbits: Lnbits) -> AsyncIterator[Shop]:
    world = World(redis)
    # LNbits's invoices are of today.
    world.offset_ms = int(time.time() * 1_000) - world.now_ms()
    ours = lnbits.new_wallet()
    lightning = LnbitsLightning(lnbits.url, ours.invoice_key, admin_key=ours.admin_key, timeout_s=10, concurrency=4)
    world.lightning = cast(Any, lightning)
    async with world.serving() as (_, router), asking() as destinations:
        state = replace(make_app_state(world, router), destinations=destinations)
        async with listening_publicly(state) as served:
            yield Shop(served.url, router, lnbits, LnbitsWallet(lnbits, lnbits.payer))
    await lightning.close()


async def with_address(lnbits: Lnbits, name: str = ADDRESS) -> LnbitsWallet:
    """A wallet that has this name before the @."""
    wallet = LnbitsWallet(lnbits, lnbits.new_wallet())
    await wallet.call("PATCH", "/api/v1/wallet", {"lightning_address": name})
    return wallet


async def test_lnbits_s_own_addresses_give_invoices_that_are_taken(lnbits: Lnbits) -> None:
    await with_address(lnbits, "bella")
    host = lnbits.url.removeprefix("http://")
    async with asking() as destinations:
        for text in (f"bella@{host}", f"bella+tag@{host}", encoded(f"{lnbits.url}/.well-known/lnurlp/bella").upper()):
            target = await destinations.resolve(read_destination(text), Msat(21_000))
            assert target.amount_msat == Msat(21_000) and network_of(target.payment_request)
        with pytest.raises(DestinationError) as raised:
            await destinations.resolve(read_destination(f"nobody@{host}"), Msat(21_000))
        assert raised.value.fault is DestinationFault.NOT_FOUND and "not found" in raised.value.told
        with pytest.raises(DestinationError) as raised:
            await destinations.resolve(read_destination(f"bella@{host}"), Msat(999))
        assert raised.value.fault is DestinationFault.AMOUNT_TOO_SMALL and raised.value.bound_sats == 1


async def test_a_session_s_rest_goes_to_an_address_of_lnbits(shop: Shop) -> None:
    wallet = await with_address(shop.lnbits)
    address = f"{ADDRESS}@{shop.lnbits.url.removeprefix('http://')}"
    answer = await shop.closed("/close", {"paymentRequest": address})
    assert answer["refund"]["paidMsat"] == await wallet.balance_msat() == 990_000


async def test_lnbits_as_a_wallet_scans_a_link_and_takes_the_rest(shop: Shop) -> None:
    wallet = LnbitsWallet(shop.lnbits, shop.lnbits.new_wallet())
    answer = await shop.closed("/withdraw", {})
    link = answer["refund"]["withdraw"]
    scanned = await wallet.call("POST", "/api/v1/lnurlscan", {"lnurl": link["lnurl"]})
    assert (scanned["tag"], scanned["maxWithdrawable"]) == ("withdrawRequest", 990_000)
    order = {"out": False, "amount": 990, "unit": "sat", "memo": scanned["defaultDescription"]}
    made = await wallet.call("POST", "/api/v1/payments", {**order, "lnurl_withdraw": scanned})
    assert made["extra"]["lnurl_response"] is True

    await arrived(wallet, 990_000)
    # A reader of cards has the same link as LUD-17 writes it.
    rest = await wallet.call("POST", "/api/v1/payments", {**order, "amount": 8})
    card = {"lnurl_w": f"lnurlw://{link_url(link)}"}
    assert (await wallet.call("POST", f"/api/v1/payments/{rest['bolt11']}/pay-with-nfc", card))["success"]
    await arrived(wallet, 998_000)
    scanned = await wallet.call("POST", "/api/v1/lnurlscan", {"lnurl": link["lnurl"].lower()})
    assert (scanned["minWithdrawable"], scanned["maxWithdrawable"]) == (0, 0)


async def arrived(wallet: LnbitsWallet, msat: int) -> None:
    async def paid() -> bool:
        return await wallet.balance_msat() == msat

    await until(paid)


def link_url(link: Json) -> str:
    """The link without its scheme."""
    return read_destination(link["lnurl"]).url.partition("://")[2]
