"""Stories of quotes, receipts, webhooks and failures of ours; see `stories.py`."""

from __future__ import annotations

from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Done, Failed, TakeUp, Wake
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.job.state import CreateJob, RefundJob
from satmeter.actors.domain.llm.reported_usage import ReportedUsage
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.domain.session.messages import OpenSession
from satmeter.actors.domain.webhooks import Webhook
from tests.helpers.jobs import EVAL_INVOICE, HOUR_MS, WORK_INVOICE, JobBench, completion, invoice, verdict
from tests.helpers.receipts import WORKED, with_reports
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SessionBench, ask, completed, grant, once, rejected, target


def job_charged_at_its_quote() -> JobBench:
    """The prices of the quote are in the journal, and the work is charged at them."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.restart()
    bench.pay_work()
    bench.finish(completion())
    return bench


def job_with_the_cost_of_its_evaluation() -> JobBench:
    """The cost of the evaluation is in the journal, with the exchange rate."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion())
    return bench


def job_that_waits_for_its_model() -> JobBench:
    """The model is away twice for its evaluation, and for its work, with a host lost in between."""
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    away = Failed(bench.intent(), permanent=False, fault=ModelFault.UNREACHABLE)
    for _ in range(2):
        bench.send(away)
        bench.now_ms += 5_000
        bench.send(Wake())
    bench.finish(verdict())
    bench.finish(WORK_INVOICE)
    bench.pay_work()
    bench.send(Failed(bench.intent(), permanent=False, retry_after_ms=37_000, fault=ModelFault.LIMITED))
    bench.restart()
    bench.now_ms += 37_000
    bench.send(TakeUp())
    bench.finish(completion())
    return bench


def job_failed_by_our_fault_and_refunded_whole() -> JobBench:
    """Work that fails for good; the node refuses to pay, then lacks funds, then pays work and evaluation back."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.send(Failed(bench.intent(), permanent=True))
    for attempt in range(3):
        bench.send(RefundJob(target(7, 19), once(f"refund:{attempt}")))
        if attempt == 0:
            bench.finish(PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY))
        elif attempt == 1:
            bench.finish(PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS))
            bench.finish(PayoutReport(PayoutStatus.ABSENT))
        else:
            bench.finish(PayoutReport(PayoutStatus.PAID, Msat(700)))
    return bench


def job_with_a_webhook() -> JobBench:
    """Told at the second attempt that it waits; its receiver wants to hear no more, and is not told how it ended."""
    bench = JobBench()
    (order,) = bench.send(CreateJob("say hello", "client", Webhook("https://example.org/hook"))).intents
    bench.send(Done(order, EVAL_INVOICE))
    bench.pay_eval()
    bench.finish(verdict())
    bench.finish(WORK_INVOICE)
    bench.send(Failed(bench.intent(), permanent=False))
    bench.now_ms += 5_000
    (again,) = bench.send(Wake()).intents
    bench.send(Done(again, False))
    bench.pay_work()
    bench.finish(completion())
    return bench


def session_with_receipts() -> SessionBench:
    """Charges of two prices, kept for receipts: one used once, one used again, of an answer and of a rejection."""
    bench = SessionBench()
    bench.fund(1_000)
    bench.send(ask("a"))
    bench.answer(completed(), "a")
    bench.send(ask("b", model="haiku"))
    bench.answer(completed(), "b")
    bench.send(ask("c"))
    bench.answer(rejected(), "c")
    return bench


def session_with_reported_usage() -> SessionBench:
    """Charges with the provider's reports: of an answer, of a rejection, of a relayed call, and one that was cut."""
    bench = SessionBench()
    bench.fund(1_000)
    bench.send(ask("a"))
    bench.answer(with_reports(completed()), "a")
    bench.send(ask("b"))
    bench.answer(with_reports(rejected()), "b")
    bench.send(relay("c"))
    bench.answer(replace(relayed(), reported=WORKED), "c")
    bench.send(ask("d"))
    bench.answer(with_reports(completed(), worked=ReportedUsage(None, cut=True)), "d")
    return bench


def job_with_reported_usage() -> JobBench:
    """Work whose provider has said what it used."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(replace(completion(), reported=WORKED))
    return bench


def session_with_nested_limits() -> SessionBench:
    """Spent under limits beneath others; some counts have ended, as nothing counts in them."""
    bench = SessionBench()
    bench.fund(1_000)
    crew = ("crew", 60_000)
    bench.send(ask("a", by=grant(crew, ("cook", 50_000), spender="crew/cook")))
    bench.answer(completed(), "a")
    bench.send(ask("b", by=grant(crew, ("scout", 30_000), spender="crew/scout")))
    bench.fail("request:ask:b", permanent=True)
    bench.send(ask("c", by=grant(crew, ("cook", 50_000), ("boy", 40_000))))
    bench.send(ask("d", by=grant(("other", 9_000))))
    bench.crash()
    bench.send(ask("e", by=grant(crew, ("boy", 40_000))))
    return bench


def session_with_a_webhook() -> SessionBench:
    """Low on balance twice; told of the first time, and of the second not yet."""
    bench = SessionBench()
    (order,) = bench.send(OpenSession(20, "client", Webhook("https://example.org/hook", Msat(15_000)))).intents
    bench.send(Done(order, invoice(1, 20)))
    bench.pay(invoice(1, 20))
    bench.send(ask("a"))
    bench.answer(completed(), "a")
    bench.finish("webhook#0", True)
    bench.top_up_with(invoice(2, 20))
    bench.pay(invoice(2, 20))
    for name in ("b", "c", "d"):
        bench.send(ask(name))
        bench.answer(completed(), name)
    bench.fail("webhook#1")
    return bench


def session_with_budgets() -> SessionBench:
    """Spent under budgets that renew, over midnight; told of one of two that are nearly spent."""
    bench = SessionBench()
    (order,) = bench.send(OpenSession(1_000, "client", Webhook("https://example.org/hook", Msat(15_000)))).intents
    bench.send(Done(order, invoice(1, 1_000)))
    bench.pay(invoice(1, 1_000))
    crew, cook = ("crew", 60_000, Period.WEEK), ("cook", 14_000, Period.DAY)
    for name in "ab":
        bench.send(ask(name, by=grant(crew, cook, ("boy", 13_900, Period.HOUR), spender="crew/cook")))
        bench.answer(completed(), name)
    bench.finish("webhook#0", True)
    bench.send(ask("c", by=grant(crew, ("scout", 30_000, Period.DAY))))
    # The session began at eight in the morning, and lives for a day.
    bench.now_ms += 16 * HOUR_MS
    bench.send(ask("d", by=grant(crew, cook)))
    bench.answer(completed(), "c")
    bench.send(ask("e", by=grant(("total", 20_000), cook)))
    bench.crash()
    bench.send(ask("f", by=grant(("total", 20_000), cook)))
    return bench
