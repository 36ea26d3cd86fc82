"""Stories of refunds to destinations; see `stories.py`."""

from __future__ import annotations

from satmeter.actors.domain.behaviour import Done, Failed, Wake
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.job.state import CreateJob
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import ResolveRefund, Unresolved
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.domain.session.messages import NameRefundDestination
from satmeter.actors.domain.webhooks import Webhook
from tests.helpers.jobs import EVAL_INVOICE, JobBench
from tests.helpers.sessions import ABSENT_MS, SessionBench, close, target

PAID, FAILED = PayoutReport(PayoutStatus.PAID, Msat(500)), PayoutReport(PayoutStatus.FAILED)
MINUTE_MS = 60_000


def session_refunded_to_its_destinations() -> SessionBench:
    """The first destination is away and its payment fails; the second one is paid, by a host that takes it up."""
    bench = SessionBench()
    bench.fund(1_000, "alice@example.org", Webhook("https://example.org/hook"))
    bench.finish("release", None)
    bench.send(close())
    bench.finish("refund#1.0.0", Unresolved("unreachable"))
    bench.now_ms += MINUTE_MS
    bench.send(Wake())
    bench.finish("refund#1.0.1", target(7, 990))
    bench.fail(f"send_payout:{7:064x}")
    bench.now_ms += ABSENT_MS
    bench.finish(f"look_up_payout:{7:064x}", FAILED)
    bench.send(NameRefundDestination("bob@example.org", Grant(generation=1)))
    bench.now_ms += MINUTE_MS
    bench.send(Wake())
    bench.finish("refund#2.1.0", target(8, 990))
    bench.crash()
    bench.finish(f"look_up_payout:{8:064x}", PAID)
    bench.finish("refund#2.2.0", Unresolved("amount_too_small", permanent=True))
    return bench


def job_refunded_to_its_destination() -> JobBench:
    """A job that failed; its destination gives an invoice over another amount, and then the right one."""
    bench = JobBench()
    (order,) = bench.send(CreateJob("say hello", "client", None, "alice@example.org")).intents
    bench.send(Done(order, EVAL_INVOICE))
    bench.pay_eval()
    bench.send(Failed(bench.intent(), permanent=True))
    bench.finish(target(7, 9))
    bench.now_ms += MINUTE_MS
    (again,) = bench.send(Wake()).intents
    assert isinstance(again, ResolveRefund)
    bench.send(Done(again, target(8, 10)))
    bench.finish(PAID)
    return bench
