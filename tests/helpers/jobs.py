"""Builders for tests about jobs: terms with round figures, invoices, and a job brought to a state."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from satmeter.actors.domain.behaviour import Command, Decision, Done, Event, Intent
from satmeter.actors.domain.job.behaviour import JobBehaviour, JobTerms
from satmeter.actors.domain.job.state import CreateJob, Job, JobState, JobView
from satmeter.actors.domain.llm.answers import Completion, Evaluation, PricedEvaluation, Verdict
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Invoice, Settle
from satmeter.actors.domain.payments.routing_fees import RoutingFees
from satmeter.actors.domain.pricing import BtcPrice, ModelPrice, PriceOrigin, Rates, Size, Terms, Tier, Usage

JOB_ID = "job_0123456789abcdefghijklmnopqrstuv"
HOUR_MS = 3_600_000
START_MS = 1_800_000_000_000
RATES = Rates(
    input=Decimal(2),
    output=Decimal(10),
    cache_read=Decimal("0.1"),
    cache_write_5m=Decimal("2.5"),
    cache_write_1h=Decimal(4),
)
TERMS = Terms(
    models={"sonnet": ModelPrice("sonnet", RATES), "haiku": ModelPrice("haiku", RATES)},
    tiers={size: Tier(300, 500, 2_000) for size in Size},
    margin_pct=Decimal(40),
    infra_usd=Decimal("0.0005"),
)
FEES = RoutingFees(per_million=10_000, least_msat=Msat(2_000))
JOB_TERMS = JobTerms(
    terms=TERMS,
    work_model="sonnet",
    eval_fee_sats=10,
    eval_expiry_s=3_600,
    invoice_expiry_s=3_600,
    model_attempts=3,
    routing_fees=FEES,
)
BTC = BtcPrice(Decimal(100_000), PriceOrigin.COINGECKO, START_MS)
USAGE = Usage(input_tokens=100, output_tokens=200)


def invoice(number: int, amount_sats: int, expires_at_ms: int = START_MS + HOUR_MS) -> Invoice:
    """An invoice whose hash is its number."""
    return Invoice(f"lnbcrt{number}", f"{number:064x}", amount_sats, expires_at_ms)


EVAL_INVOICE = invoice(1, 10)
WORK_INVOICE = invoice(2, 9)
VIEW = JobView(
    JOB_ID, JobState.AWAITING_EVAL_PAYMENT, START_MS, START_MS, EVAL_INVOICE, None, None, None, None, None, None, None
)


def verdict(*, accepted: bool = True, size: Size = Size.SMALL) -> PricedEvaluation:
    """An evaluation's result."""
    return PricedEvaluation(Evaluation(Verdict(accepted, "because", size), "haiku", USAGE), BTC)


def completion(usage: Usage | None = USAGE) -> Completion:
    """A finished piece of work."""
    return Completion("the answer", "sonnet", usage, "end_turn")


class JobBench:
    """A job without a host: applies commands, and folds their events, the way a host does after its write."""

    def __init__(self, job_terms: JobTerms = JOB_TERMS) -> None:
        self.behaviour = JobBehaviour(job_terms)
        self.job: Job | None = None
        self.events: list[Event] = []
        self.now_ms = START_MS

    @property
    def state(self) -> Job:
        """The job, which must exist."""
        assert self.job is not None
        return self.job

    def send(self, command: Command) -> Decision:
        """Decides the command and applies its events."""
        decision = self.behaviour.decide(JOB_ID, self.job, command, self.now_ms)
        if decision.opening is not None:
            self.events[0] = decision.opening
        for event in decision.events:
            self.job = self.behaviour.evolve(JOB_ID, self.job, event)
            self.events.append(event)
        return decision

    def intent(self) -> Intent:
        """The one thing that is under way."""
        (intent,) = self.behaviour.intents(JOB_ID, self.state)
        return intent

    def finish(self, result: Any) -> Decision:
        """Ends what is under way."""
        return self.send(Done(self.intent(), result))

    def open(self, request: str = "say hello") -> None:
        """Creates the job with its evaluation's invoice."""
        (order,) = self.send(CreateJob(request, "client")).intents
        self.send(Done(order, EVAL_INVOICE))

    def pay_eval(self, amount_msat: int = 10_000) -> Decision:
        """Settles the evaluation's invoice."""
        return self.send(Settle(EVAL_INVOICE.payment_hash, Msat(amount_msat)))

    def pay_work(self, amount_msat: int = 9_000) -> Decision:
        """Settles the work's invoice."""
        return self.send(Settle(WORK_INVOICE.payment_hash, Msat(amount_msat)))

    def to_work_invoice(self) -> None:
        """Brings a new job to where its work is to be paid."""
        self.open()
        self.pay_eval()
        self.finish(verdict())
        self.finish(WORK_INVOICE)

    def restart(self) -> None:
        """Fold the journal again, as the next host would."""
        codec = self.behaviour
        self.job = None
        for event in self.events:
            self.job = codec.evolve(JOB_ID, self.job, codec.decode_event(codec.encode_event(event)))
