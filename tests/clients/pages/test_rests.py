"""Rests of sessions, over a front in this process, whose clock and whose destinations a test turns."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import expect
from redis.asyncio import Redis

from satmeter.actors.domain.payments.destinations import DestinationFault
from satmeter.actors.ports import DestinationError
from satmeter.scripts.store.embedded import EmbeddedStore
from tests.clients.pages.visits import NARROW, Visit
from tests.helpers.http.fronts import Api, api_over, listening_publicly
from tests.helpers.patience import PATIENCE_S
from tests.helpers.quick_disk import quick_disk

Visits = Callable[..., Visit]
DAY_MS = 86_400_000


class Site(NamedTuple):
    """The front and its world."""

    url: str
    api: Api
    loop: asyncio.AbstractEventLoop

    @property
    def destinations(self) -> Any:
        """The servers of Lightning addresses."""
        return self.api.state.destinations


async def _serve(directory: str, begun: Future[Site], ended: threading.Event) -> None:
    store = EmbeddedStore(Path(directory))
    redis = Redis.from_url(await store.start())
    try:
        async with api_over(redis) as api, listening_publicly(api.state) as server:
            begun.set_result(Site(server.url, api, asyncio.get_running_loop()))
            await asyncio.to_thread(ended.wait)
    finally:
        await redis.aclose()
        await store.stop()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """The front, in a thread of its own, as the browser's driver has the loop of this one."""
    begun: Future[Site] = Future()
    ended = threading.Event()
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory:
        thread = threading.Thread(target=lambda: asyncio.run(_serve(directory, begun, ended)))
        thread.start()
        yield begun.result(PATIENCE_S)
        ended.set()
        thread.join(PATIENCE_S)


def test_the_rest_goes_to_a_lightning_address_with_what_the_route_did_not_cost(visit: Visits, site: Site) -> None:
    visitor = visit(viewport=NARROW)
    visitor.expect_refusals(400)
    visitor.deposit()
    page = visitor.page
    visitor.unfold("Finish, and take the rest back")
    site.destinations.script = [DestinationError(DestinationFault.NOT_FOUND, "knows no such name")]
    page.get_by_label("Lightning address or invoice").fill("me@example.org")
    visitor.button("Close, and pay it back").click()
    expect(page.get_by_role("alert")).to_contain_text("knows no such name")
    expect(page.get_by_role("alert")).to_contain_text("Change it, then try again.")
    assert visitor.session()["state"] == "active" and site.destinations.targets == []
    visitor.button("Close, and pay it back").click()
    expect(page.get_by_text("paid back.")).to_be_visible()
    assert len(site.destinations.targets) == 1
    expect(page.get_by_label("Lightning address or invoice")).to_have_value("me@example.org")
    visitor.button("Pay it back").click()
    expect(page.get_by_text("are too little to be sent over Lightning")).to_be_visible()
    visitor.assert_accessible()
    refund = visitor.session()["refund"]
    assert refund["owedMsat"] + refund["paidMsat"] == 500_000
    assert refund["paidMsat"] == sum(target.amount_msat.value for target in site.destinations.targets)


def test_a_payment_that_takes_long_is_shown_as_under_way_and_ends_without_the_page(
    visit: Visits, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.http.payments.refunds.PATIENCE_S", 0.2)
    visitor = visit()
    visitor.expect_refusals(425)
    visitor.deposit()
    page = visitor.page
    visitor.unfold("Finish, and take the rest back")
    page.get_by_label("Lightning address or invoice").fill("me@example.org")
    site.api.world.lightning.gate.close()
    visitor.button("Close, and pay it back").click()
    expect(page.get_by_text("Your money is on its way.")).to_be_visible()
    visitor.assert_accessible()
    page.reload()
    expect(page.get_by_text("Your money is on its way.")).to_be_visible()
    site.loop.call_soon_threadsafe(site.api.world.lightning.gate.open)
    expect(page.get_by_text("paid back.")).to_be_visible()


def test_the_rest_of_a_session_whose_time_is_over_is_taken_back_and_no_text_is_lost(visit: Visits, site: Site) -> None:
    visitor = visit()
    visitor.expect_refusals(410)
    visitor.deposit()
    page = visitor.page
    page.get_by_label("Your message").fill("My precious words")
    site.api.world.offset_ms += DAY_MS + 1_000
    visitor.button("Send").click()
    expect(page.get_by_role("heading", name="The time of this session is over")).to_be_visible()
    expect(page.get_by_text("My precious words")).to_be_visible()
    expect(page.get_by_text("You are owed 500 sats.")).to_be_visible()
    visitor.assert_accessible()
    page.get_by_label("Lightning address or invoice").fill("me@example.org")
    visitor.button("Pay it back").click()
    expect(page.get_by_text("paid back.")).to_be_visible()


def test_a_deposit_that_was_never_paid_begins_again(visit: Visits, site: Site) -> None:
    visitor = visit()
    visitor.deposit(pays=False)
    expect(visitor.button("Pay with the stub")).to_be_visible()
    site.api.world.offset_ms += 2 * DAY_MS
    visitor.button("Start again").click()
    expect(visitor.button("Show the invoice")).to_be_visible()
    # The server may learn of a payment late: the key is kept for some days, out of sight.
    expect(visitor.page.locator(".kept")).to_have_count(0)
    visitor.page.reload()
    expect(visitor.button("Show the invoice")).to_be_visible()
    assert visitor.page.evaluate("localStorage.length") == 1
    visitor.page.clock.install(time=time.time() + 8 * DAY_MS / 1_000)
    visitor.page.reload()
    expect(visitor.button("Show the invoice")).to_be_visible()
    visitor.page.wait_for_function("localStorage.length === 0")
