"""Payouts to destinations that give another invoice each time, in any order of repeats, answers and failures."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpPayout, SendPayout
from satmeter.actors.domain.payments.payout_plan import PayoutPlan
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStarted, PayoutStatus
from satmeter.actors.domain.session.messages import CloseSession, PlanPayout
from tests.helpers.sessions import ABSENT_MS, FULL, SessionBench, once, target

DEPOSIT_SATS = 100
REPORTS = [PayoutReport(status, Msat(500)) for status in PayoutStatus]

asks = st.tuples(st.just("ask"), st.integers(0, 3), st.sampled_from([None, 1, 40, 98, 99]))
orders = st.tuples(st.just("order"), st.integers(0, 9), st.none())
answers = st.tuples(st.just("answer"), st.integers(0, 3), st.none())
waits = st.tuples(st.just("wait"), st.integers(0, 1), st.none())
steps = st.lists(st.one_of(asks, orders, answers, waits), max_size=40)


class Front:
    """A front that keeps nothing: it plans, has an invoice made, and orders the payout, each when a step says so."""

    def __init__(self) -> None:
        self.bench = SessionBench()
        self.bench.fund(DEPOSIT_SATS)
        self.bench.finish("release", None)
        self.planned: list[tuple[str, int | None, Msat]] = []
        self.started: Counter[str] = Counter()
        self.invoices = 0

    def ask(self, key: int, sats: int | None) -> None:
        name, asked = f"key{key}", None if sats is None else Msat.from_sats(sats)
        reply = self.bench.send(PlanPayout(asked, once(name, f"digest{sats}"), FULL)).reply
        if isinstance(reply, PayoutPlan) and reply.amount_msat:
            self.planned.append((name, sats, reply.amount_msat))

    def order(self, number: int) -> None:
        if not self.planned:
            return
        name, sats, amount_msat = self.planned[number % len(self.planned)]
        self.invoices += 1
        to = target(self.invoices, amount_msat.whole_sats)
        decision = self.bench.send(CloseSession(to, once(name, f"digest{sats}"), FULL))
        self.started[name] += sum(isinstance(event, PayoutStarted) for event in decision.events)

    def answer(self, number: int) -> None:
        found = [i for i in self.bench.running.values() if isinstance(i, SendPayout | LookUpPayout)]
        if found:
            self.bench.finish(found[0].key, REPORTS[number])


@given(steps)
def test_each_key_begins_one_payout_at_most_and_all_of_them_what_there_is(
    taken: list[tuple[str, int, int | None]],
) -> None:
    front = Front()
    for kind, number, sats in taken:
        match kind:
            case "ask":
                front.ask(number, sats)
            case "order":
                front.order(number)
            case "answer":
                front.answer(number)
            case "wait":
                front.bench.now_ms += ABSENT_MS
        under_way = [i for i in front.bench.running.values() if isinstance(i, SendPayout | LookUpPayout)]
        assert len(under_way) <= 1
        assert all(count <= 1 for count in front.started.values())
        books = front.bench.state.books
        assert books.refunded + books.pending + books.owed + books.spent + books.balance == Msat.from_sats(DEPOSIT_SATS)
