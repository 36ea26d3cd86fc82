"""A host of an earlier release, which ends the connection of a front that asks what it does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.job.state import GetJob
from satmeter.actors.domain.payments.invoices import InvoicePurpose, InvoiceState, ShowInvoice, ShownInvoice
from satmeter.actors.host_link import LinkError
from satmeter.actors.messages import Call, Cancel
from satmeter.actors.router.router import Router
from tests.helpers.hosts import a_moment
from tests.helpers.jobs import VIEW
from tests.helpers.patience import PATIENCE_S
from tests.unit.actors.router.test_router import FakeHost, router_to

SHOW = ShowInvoice("ab" * 32)
SHOWN = ShownInvoice(InvoiceState.PAID, InvoicePurpose.DEPOSIT, None)


class OlderHost(FakeHost):
    """Host that is there all the while, and does not know `ShowInvoice`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = 0

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        if any(isinstance(call, Call) and isinstance(call.command, ShowInvoice) for call in calls):
            self.broken += 1
            self._death.set()
            self._death = asyncio.Event()
            raise LinkError("the connection broke")
        await super().submit(queue_id, calls)


async def refusal(router: Router) -> Code:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RefusedError) as refused:
            await router.call("job_1", SHOW)
    return refused.value.refusal.code


async def test_what_it_can_not_read_is_refused_and_the_calls_beside_it_are_answered() -> None:
    """Sent again and again, it would break the connections of all clients, and fill both logs."""
    host = OlderHost()
    router = router_to(host)
    asking = asyncio.create_task(router.call("job_2", GetJob()))
    await host.calls(1)
    with capture_logs() as logs:
        assert await refusal(router) is Code.UNAVAILABLE
        for _ in range(5):
            assert await refusal(router) is Code.UNAVAILABLE
    assert host.broken == 2, "at the call itself, and at the trial"
    assert [entry["event"] for entry in logs].count("command_not_read") == 1 and len(logs) <= 5
    host.answer((await host.calls(2))[-1].call_id, VIEW)
    assert await asking == VIEW
    await router.close()


async def test_once_it_was_started_again_it_is_asked_again() -> None:
    host = OlderHost()
    router = router_to(host)
    assert await refusal(router) is Code.UNAVAILABLE
    newer = FakeHost()
    host.submit = newer.submit  # type: ignore[method-assign]
    host.collect = newer.collect  # type: ignore[method-assign]
    newer.dead = True
    host._death.set()
    asking = asyncio.create_task(router.call("job_1", GetJob()))
    await a_moment()
    newer.revive()
    newer.answer((await newer.calls(1))[-1].call_id, VIEW)
    assert await asking == VIEW
    showing = asyncio.create_task(router.call("job_1", SHOW))
    newer.answer((await newer.calls(2))[-1].call_id, SHOWN)
    assert await showing == SHOWN
    await router.close()


async def test_a_connection_that_breaks_twice_by_chance_fails_no_call_of_a_kind_that_the_host_has_answered() -> None:
    host = FakeHost()
    router = router_to(host)
    for number, breaks in enumerate((False, True, True)):
        asking = asyncio.create_task(router.call("job_1", GetJob()))
        await host.calls(len(host._seen()) + 1)
        if breaks:
            seen = len(host._seen())
            host._death.set()
            host._death = asyncio.Event()
            await host.calls(seen + 1)
        host.answer(host._seen()[-1].call_id, VIEW)
        assert await asking == VIEW, number
    await router.close()
