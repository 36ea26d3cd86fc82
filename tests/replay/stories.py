"""Tells stories of jobs and sessions by the real code, and freezes their journals in this folder.

    python -m tests.replay.stories      writes the stories that are not there yet, and never touches one that is

A frozen journal stands for all those in operators' stores: it must fold to its recorded state for good. A story is for
a new event, or a new way in which known ones follow on each other.

Each file has a line with the actor, a line for each event as the journal holds it, and a line with what they fold to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from satmeter.actors.domain.behaviour import Done, Failed, TakeUp, Wake
from satmeter.actors.domain.job.payments import KEEP_TEXT_MS
from satmeter.actors.domain.job.state import RefundJob
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpInvoice, LookUpPayout
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.domain.session.state import Session
from tests.helpers.jobs import HOUR_MS, JOB_ID, WORK_INVOICE, JobBench, completion, invoice, verdict
from tests.helpers.sessions import (
    ABSENT_MS,
    DAY_MS,
    DEPOSIT,
    SESSION_ID,
    SessionBench,
    ask,
    close,
    completed,
    grant,
    once,
    rejected,
    target,
    top_up,
)
from tests.replay.refund_stories import (
    job_refunded_to_its_destination,
    session_refunded_to_its_destinations,
)
from tests.replay.told_stories import (
    job_charged_at_its_quote,
    job_failed_by_our_fault_and_refunded_whole,
    job_that_waits_for_its_model,
    job_with_a_webhook,
    job_with_reported_usage,
    job_with_the_cost_of_its_evaluation,
    session_with_a_webhook,
    session_with_budgets,
    session_with_nested_limits,
    session_with_receipts,
    session_with_reported_usage,
)

FOLDER = Path(__file__).parent
PAID, FAILED = PayoutReport(PayoutStatus.PAID, Msat(500)), PayoutReport(PayoutStatus.FAILED)


def summary(state: Any) -> dict[str, Any]:
    """Summarize a state for the record: its phase, and all of its books."""
    books = {name: getattr(state.books, name).value for name in state.books.__struct_fields__}
    told: dict[str, Any] = {"state": state.state.value, "books": books}
    if isinstance(state, Session):
        told |= {"seq": state.seq, "settled": sorted(state.settled), "holds": sorted(state.holds)}
        told["counters"] = {name: amount.value for name, amount in sorted(state.counters.items())}
        if state.windows:
            told["windows"] = {name: window.from_ms for name, window in sorted(state.windows.items())}
    else:
        told |= {"step": state.step.kind.value if state.step else None, "work_paid_msat": state.work_paid_msat.value}
    told["payouts_ended"] = dict(state.refunds.ended)
    return told


# Jobs


def _refund(number: int, sats: int) -> RefundJob:
    return RefundJob(target(number, sats), once(f"refund:{number}"))


def job_unpaid_expired() -> JobBench:
    """Nobody pays."""
    bench = JobBench()
    bench.open()
    bench.now_ms += 2 * HOUR_MS
    (look_up,) = bench.send(Wake()).intents
    assert isinstance(look_up, LookUpInvoice)
    bench.send(_done(look_up, None))
    return bench


def job_paid_after_its_expiry() -> JobBench:
    """The evaluation is paid when its invoice has lapsed, and more than its amount."""
    bench = job_unpaid_expired()
    bench.pay_eval(12_345)
    bench.finish(verdict(accepted=False))
    return bench


def job_whose_text_was_dropped() -> JobBench:
    """A minute after its expiry."""
    bench = job_unpaid_expired()
    bench.now_ms += KEEP_TEXT_MS
    bench.send(Wake())
    return bench


def job_paid_after_its_text_was_dropped() -> JobBench:
    """All of the payment is owed, and paid back."""
    bench = job_whose_text_was_dropped()
    bench.pay_eval(10_500)
    bench.send(_refund(1, 10))
    bench.finish(PayoutReport(PayoutStatus.PAID))
    return bench


def job_rejected() -> JobBench:
    """The evaluation's fee is kept."""
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.finish(verdict(accepted=False))
    return bench


def job_complete_and_refunded() -> JobBench:
    """Work that cost less than it was quoted, whose rest is paid back."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion())
    bench.send(_refund(7, 2))
    bench.finish(PAID)
    return bench


def job_after_failed_attempts() -> JobBench:
    """An evaluation that fails for a moment, and work that is lost with its host."""
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.send(Failed(bench.intent(), permanent=False))
    bench.now_ms += 5_000
    bench.send(Wake())
    bench.finish(verdict())
    bench.finish(WORK_INVOICE)
    bench.pay_work()
    bench.restart()
    bench.send(TakeUp())
    bench.finish(completion(None))
    return bench


def job_failed_and_refunded_at_the_second_try() -> JobBench:
    """Work that the model refuses; the first payout fails, the second is lost sight of and found paid."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.send(Failed(bench.intent(), permanent=True, of_request=True))
    bench.send(_refund(7, 7))
    bench.finish(FAILED)
    bench.finish(FAILED)
    bench.send(_refund(8, 6))
    bench.restart()
    bench.send(TakeUp())
    assert isinstance(bench.intent(), LookUpPayout)
    bench.finish(PAID)
    return bench


def job_work_unpaid() -> JobBench:
    """The work is never paid; the evaluation was delivered."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.now_ms += 2 * HOUR_MS
    (look_up,) = bench.send(Wake()).intents
    bench.send(_done(look_up, None))
    return bench


# Sessions


def session_unpaid() -> SessionBench:
    """Nobody pays; it expires."""
    bench = SessionBench()
    bench.open()
    bench.now_ms += 2 * HOUR_MS
    for look_up in bench.send(Wake()).intents:
        bench.send(_done(look_up, None))
    bench.now_ms += DAY_MS
    bench.send(Wake())
    return bench


def session_with_requests() -> SessionBench:
    """Holds that end as debits, of whole answers, rejected and cut off ones; two released; one left."""
    bench = SessionBench()
    bench.fund()
    bench.send(ask("a"))
    bench.answer(completed(), "a")
    bench.send(ask("b", by=grant(("p", 60_000), spender="helper")))
    bench.answer(rejected(), "b")
    bench.send(ask("c", stream=True))
    bench.answer(completed(ending=Ending.LEFT), "c")
    bench.send(ask("g"))
    bench.answer(completed(ending=Ending.BROKEN), "g")
    bench.send(ask("d", by=grant(("p", 60_000), spender="helper")))
    bench.fail("request:ask:d", permanent=True)
    bench.send(ask("e"))
    bench.crash()
    bench.send(ask("f"))
    return bench


def session_with_top_ups() -> SessionBench:
    """Top-ups that are paid, can't be made, lapse, and are paid after all."""
    bench = SessionBench()
    bench.fund()
    bench.top_up_with(invoice(2, 250))
    bench.pay(invoice(2, 250))
    topic = bench.send(top_up("u")).wait_for
    assert topic is not None
    bench.fail(topic, permanent=True)
    bench.top_up_with(invoice(3, 120), "v")
    bench.now_ms += 2 * HOUR_MS
    for look_up in bench.send(Wake()).intents:
        bench.send(_done(look_up, None))
    bench.pay(invoice(3, 120), 120_001)
    return bench


def session_closed_and_refunded() -> SessionBench:
    """Closed with a request under way; the first payout fails, the second pays; what the request leaves is owed."""
    bench = SessionBench()
    bench.fund(1_000)
    bench.send(ask("a"))
    bench.send(close(target(7, 500)))
    bench.finish(f"send_payout:{7:064x}", PayoutReport(PayoutStatus.PENDING))
    bench.now_ms += ABSENT_MS
    bench.finish(f"look_up_payout:{7:064x}", FAILED)
    bench.answer(completed(), "a")
    bench.send(close(target(8, 600), "c2"))
    bench.finish(f"send_payout:{8:064x}", PAID)
    return bench


def session_closed_with_its_payout_under_way() -> SessionBench:
    """The host died while it paid out; nothing is known yet."""
    bench = SessionBench()
    bench.fund()
    bench.send(close(target(7, 90)))
    bench.crash()
    return bench


def session_expired_and_paid_late() -> SessionBench:
    """A top-up that is paid when the session is over is owed at once."""
    bench = SessionBench()
    bench.fund()
    bench.top_up_with(invoice(2, 50))
    bench.now_ms += 2 * DAY_MS
    for look_up in bench.send(Wake()).intents:
        bench.send(_done(look_up, None))
    bench.pay(invoice(2, 50))
    return bench


def session_closed_before_its_deposit() -> SessionBench:
    """Closed unpaid, and then paid."""
    bench = SessionBench()
    bench.open()
    bench.send(close())
    bench.pay(DEPOSIT, 100_500)
    return bench


def _done(intent: Any, result: Any) -> Any:
    return Done(intent, result)


STORIES: dict[str, Callable[[], JobBench | SessionBench]] = {
    story.__name__: story
    for story in (
        job_unpaid_expired,
        job_paid_after_its_expiry,
        job_whose_text_was_dropped,
        job_paid_after_its_text_was_dropped,
        job_rejected,
        job_complete_and_refunded,
        job_after_failed_attempts,
        job_failed_and_refunded_at_the_second_try,
        job_failed_by_our_fault_and_refunded_whole,
        job_work_unpaid,
        job_charged_at_its_quote,
        job_with_a_webhook,
        job_with_reported_usage,
        job_with_the_cost_of_its_evaluation,
        job_that_waits_for_its_model,
        job_refunded_to_its_destination,
        session_unpaid,
        session_with_requests,
        session_with_receipts,
        session_with_reported_usage,
        session_with_a_webhook,
        session_with_budgets,
        session_with_nested_limits,
        session_with_top_ups,
        session_closed_and_refunded,
        session_closed_with_its_payout_under_way,
        session_expired_and_paid_late,
        session_closed_before_its_deposit,
        session_refunded_to_its_destinations,
    )
}


def told(story: Callable[[], JobBench | SessionBench]) -> bytes:
    """The story as its file holds it."""
    bench = story()
    actor_id = SESSION_ID if isinstance(bench, SessionBench) else JOB_ID
    events = bench.journal if isinstance(bench, SessionBench) else map(bench.behaviour.encode_event, bench.events)
    state = bench.state
    lines = [msgspec.json.encode({"actor_id": actor_id}), *events, msgspec.json.encode(summary(state))]
    return b"".join(line + b"\n" for line in lines)


def main() -> None:
    """Writes what is missing."""
    for name, story in STORIES.items():
        path = FOLDER / f"{name}.jsonl"
        if not path.exists():
            path.write_bytes(told(story))


if __name__ == "__main__":
    main()
