"""Questions to the destinations of refunds: what becomes of each kind of failure."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.destinations import DestinationFault
from satmeter.actors.domain.payments.intents import ResolveRefund, Unresolved
from satmeter.actors.effects.refund_calls import RefundCalls
from satmeter.actors.ports import DestinationError, TransientError
from tests.helpers.lnurl_servers import FakeDestinations

INTENT = ResolveRefund("refund#1.0.0", "alice@example.org", Msat(98_000))


async def test_the_invoice_of_the_destination_is_the_result() -> None:
    destinations = FakeDestinations()
    answer = await RefundCalls(destinations).resolve(INTENT, "ses_1")
    assert answer == destinations.targets[0]
    ((asked, amount_msat, _),) = destinations.asked
    assert (asked.text, amount_msat) == ("alice@example.org", Msat(98_000))


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (TransientError("away"), Unresolved("unreachable")),
        (TransientError("busy", 2.5), Unresolved("unreachable", retry_after_ms=2_500)),
        (DestinationError(DestinationFault.NOT_FOUND, "no such"), Unresolved("not_found", permanent=True)),
        # Servers of addresses say so as well while their own node is away.
        (DestinationError(DestinationFault.REFUSED, "not now"), Unresolved("refused")),
    ],
)
async def test_a_failure_is_a_result_and_names_the_actor_in_the_log(error: Exception, answer: Unresolved) -> None:
    with capture_logs() as logged:
        assert await RefundCalls(FakeDestinations([error])).resolve(INTENT, "ses_1") == answer
    (entry,) = logged
    assert (entry["event"], entry["actor_id"], entry["reason"]) == ("refund_destination_failed", "ses_1", answer.error)


async def test_a_text_that_is_not_a_destination_any_more_is_refused() -> None:
    intent = ResolveRefund("refund#1.0.0", "nonsense", Msat(98_000))
    assert await RefundCalls(FakeDestinations()).resolve(intent, "ses_1") == Unresolved("malformed", permanent=True)


async def test_an_answer_is_not_waited_for_for_ever() -> None:
    destinations = FakeDestinations()
    destinations.gate.close()
    answer = await asyncio.wait_for(RefundCalls(destinations, resolve_s=0.01).resolve(INTENT, "ses_1"), 5)
    assert answer == Unresolved("unreachable")
