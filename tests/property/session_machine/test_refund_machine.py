"""Any interleaving of a session's life with a destination, which pays its rest by itself and never twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from satmeter.actors.domain.payments.intents import ResolveRefund, SendPayout, Unresolved
from satmeter.actors.domain.payments.payouts import PayoutStarted
from satmeter.actors.domain.payments.refund_flow import RefundTryFailed
from satmeter.actors.domain.session.messages import NameRefundDestination, SessionView
from tests.helpers.sessions import FULL, target
from tests.property.session_machine.model import Payout, reserve
from tests.property.session_machine.test_session_machine import SessionMachine, outcomes
from tests.property.session_machine.world import picks

MINUTE_MS = 60_000
answers = st.sampled_from(["right", "right", "right", "more", "less", "old", "other network", "away", "refused"])


class RefundMachine(SessionMachine):
    """Destinations, named and named again, and their answers, in time and late.

    turn: counts what makes every answer meaningless that was asked for before. turns: the turn of each question.
    """

    def __init__(self) -> None:
        super().__init__()
        self.destination: str | None = None
        self.turn = 0
        self.turns: dict[str, int] = {}

    @rule(name=st.sampled_from("ab"))
    def names(self, name: str) -> None:
        destination = f"{name}@example.org"
        decision = self.bench.send(NameRefundDestination(destination, FULL))
        assert isinstance(decision.reply, SessionView)
        assert self.destination == destination or decision.events
        self.destination = destination
        self.turn += bool(decision.events)

    def payout_ends(self, fee: int | None) -> None:
        """See `SessionMachine.payout_ends`; what the destination was asked before belongs to another debt."""
        super().payout_ends(fee)
        self.turn += 1

    @precondition(lambda self: self.running(ResolveRefund))
    @rule(how=answers, pick=picks, outcome=st.none() | outcomes)
    def destination_answers(self, how: str, pick: int, outcome: str | None = None) -> None:
        questions = self.running(ResolveRefund)
        intent, account = questions[pick % len(questions)], self.account
        means_something = self.turns[intent.key] == self.turn and account.payout is None
        if how in {"away", "refused"}:
            to, fits = None, False
            decision = self.bench.finish(intent.key, Unresolved(how, permanent=how == "refused"))
        else:
            sats = intent.amount_msat.whole_sats + {"more": 1, "less": -1}.get(how, 0)
            to = target(self.number(), sats, "bc" if how == "other network" else "bcrt")
            if how == "old" and self.targets:
                to = replace(list(self.targets.values())[pick % len(self.targets)], internal=False)
            fits = to.amount_msat == intent.amount_msat and to.payment_hash not in account.paid_out
            fits = fits and how != "other network"
            if how != "other network":
                self.targets.setdefault(to.payment_hash, to)
            decision = self.bench.finish(intent.key, to)
        if not means_something:
            assert decision.events == ()
            return
        (event,) = decision.events
        if not fits or to is None:
            assert isinstance(event, RefundTryFailed) and event.next_ms != 0
            self.turn += 1
            return
        assert isinstance(event, PayoutStarted) and event.refund_to == intent.destination == self.destination
        assert (
            account.over and not account.held and account.owed >= to.amount_msat.value + reserve(to.amount_msat.value)
        )
        account.begin_payout(Payout(to.payment_hash, to.amount_msat.value, "", ""))
        if outcome and self.running(SendPayout):
            self.payout_is_sent(outcome, 2_000)

    @invariant()
    def questions_are_asked_when_something_can_be_paid(self) -> None:
        for intent in self.running(ResolveRefund):
            self.turns.setdefault(intent.key, self.turn)
        if self.bench.session is None or (standing := self.bench.state.refunds.standing) is None:
            return
        account = self.account
        payable = account.over and not account.held and not account.payout and self._most(account.owed)
        current = [i for i in self.running(ResolveRefund) if self.turns[i.key] == self.turn]
        if payable and not standing.over:
            due_ms = self.bench.behaviour.due_ms(self.bench.state)
            assert due_ms is not None and (current or standing.next_ms)
            assert all(i.amount_msat.value <= payable * 1_000 for i in current)
        for intent in current:
            assert intent.destination == self.destination

    def pay_the_rest(self) -> int:
        """Leave it to the destination, which answers well by now."""
        standing, rounds = self.bench.state.refunds.standing, 0
        if standing is None or standing.over:
            self.names("b" if self.destination == "a@example.org" else "a")
        self.questions_are_asked_when_something_can_be_paid()
        while self._most(self.account.owed):
            standing = self.bench.state.refunds.standing
            assert standing is not None
            for intent in self.running(ResolveRefund):
                if self.turns[intent.key] != self.turn:
                    self.bench.finish(intent.key, target(self.number(), 1))
            if not self.running(ResolveRefund):
                self.bench.now_ms = max(self.bench.now_ms, standing.next_ms)
                self.wakes()
            self.questions_are_asked_when_something_can_be_paid()
            self.destination_answers("right", 0)
            self.payout_is_sent("paid", 0)
            self.questions_are_asked_when_something_can_be_paid()
            rounds += 1
        return rounds


# Making a failure small takes longer than finding it.
def test_a_destination_is_paid_all_that_is_owed_and_nothing_twice() -> None:
    run_state_machine_as_test(RefundMachine, settings=settings(max_examples=500, deadline=None))
