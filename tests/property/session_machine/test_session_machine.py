"""Any interleaving of a session's life, with crashes, against an account that is kept by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Wake
from satmeter.actors.domain.llm.intents import AnswerRequest, RelayRequest
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import IssueInvoice, LookUpInvoice, LookUpPayout, SendPayout
from satmeter.actors.domain.payments.payout_flow import verdict
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.domain.session.messages import SessionView
from tests.helpers.jobs import HOUR_MS
from tests.helpers.sessions import ABSENT_MS, close, target
from tests.property.session_machine.asking import AskingWorld
from tests.property.session_machine.model import LIFE_MS, Payout, count_of, reserve
from tests.property.session_machine.world import names, picks

# How long after its call's end, or its host's death, a payment may still reach the node.
LATE_MS = ABSENT_MS - 1_000
PENDING, PAID, FAILED, ABSENT = PayoutStatus.PENDING, PayoutStatus.PAID, PayoutStatus.FAILED, PayoutStatus.ABSENT

times = st.sampled_from(
    [1, 29_000, 31_000, 31_000, 31_000, LATE_MS, ABSENT_MS, HOUR_MS, HOUR_MS, 12 * HOUR_MS, LIFE_MS]
)
fees = st.sampled_from([0, 1, 1_999, 2_000, 50_000, 50_000])
outcomes = st.sampled_from(
    ["paid", "paid", "refused", "unknown", "pending", "arrived", "on its way", "on its way", "lost"]
)


@dataclass
class Outgoing:
    """Payout as the node knows it. `arrives_by_ms`: a call that is on its way has come by then, or is lost."""

    status: PayoutStatus = ABSENT
    fee: int = 0
    calls: int = 0
    arrives_by_ms: int | None = None

    def arrive(self, arrives: bool) -> None:
        """The call that was on its way comes to its end."""
        self.arrives_by_ms = None
        self.status = PENDING if arrives else self.status


class SessionMachine(AskingWorld):
    """Money out, time and crashes, and what must hold after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: dict[str, PayoutTarget] = {}
        self.outgoing: defaultdict[str, Outgoing] = defaultdict(Outgoing)
        self.added_up = 0

    # Money out

    # Closing ends most of what can happen: not at every step.
    @precondition(lambda self: self.account.over or len(self.bench.journal) % 4 == 0)
    @rule(
        name=names,
        sats=st.sampled_from(["none", "old", "old", "some", "most", "most", "more"]),
        pick=picks,
        outcome=st.none() | outcomes,
        internal=st.booleans(),
    )
    def closes(self, name: str, sats: str, pick: int, outcome: str | None, internal: bool = False) -> None:
        account = self.account
        payable, to = account.owed + account.balance, None
        most = payable // 1_000 if internal else self._most(payable)
        if sats == "old" and self.targets:
            to = list(self.targets.values())[pick % len(self.targets)]
        elif sats != "none":
            amount = {"most": most, "more": most + 1}.get(sats, 1 + pick % max(1, most))
            to = replace(target(self.number(), max(1, amount)), internal=internal)
            self.targets[to.payment_hash] = to
        if to is not None:
            most = payable // 1_000 if to.internal else self._most(payable)
        self.close(to, name, most * 1_000)
        if outcome and self.running(SendPayout):
            self.payout_is_sent(outcome, 2_000)

    def _most(self, payable: int) -> int:
        """The largest invoice in whole sats that leaves its reserve."""
        most = max(0, payable - 2_000) // 1_000
        while most and most * 1_000 + reserve(most * 1_000) > payable:
            most -= 1
        return most

    def close(self, to: PayoutTarget | None, name: str, most: int) -> None:
        """Closes, and expects what the account says; `most` msat can be paid out."""
        account, digest = self.account, to.payment_hash if to else "nothing"
        command = close(to, name, digest=digest)
        decision = self.bench.send(command)
        code, payout = self.code(decision), account.payout
        if self.kept(command.once.name, digest, decision):
            return
        if payout and payout.name == command.once.name:
            assert decision.wait_for if payout.digest == digest else code == "idempotency_conflict"
        elif to is None:
            account.end("closed")
            assert isinstance(decision.reply, SessionView)
            self.answers[command.once.name] = digest, decision.reply
        elif payout and payout.payment_hash == to.payment_hash:
            assert decision.wait_for and decision.events == ()
        elif account.paid_out.get(to.payment_hash):
            assert isinstance(decision.reply, SessionView) and decision.events == ()
        elif payout:
            assert code == "refund_pending"
        elif to.payment_hash in account.paid_out:
            assert code == "wrong_state"
        elif to.amount_msat.value > most:
            assert code == "invalid_request"
        else:
            account.end("closed")
            amount = to.amount_msat.value
            account.begin_payout(Payout(to.payment_hash, amount, command.once.name, digest, to.internal))
            assert decision.wait_for and len(self.running(SendPayout)) == 1

    def payout_ends(self, fee: int | None) -> None:
        """The session was told the node's word: it was paid at this fee, or it failed."""
        payout = self.account.payout
        assert payout is not None
        self.account.end_payout(fee)
        self.answers[payout.name] = payout.digest, self.bench.view()

    @precondition(lambda self: self.running(SendPayout))
    @rule(outcome=outcomes, fee=fees)
    def payout_is_sent(self, outcome: str, fee: int) -> None:
        (intent,) = self.running(SendPayout)
        node = self.outgoing[intent.target.payment_hash]
        assert node.calls == 0
        node.calls = 1
        if self.bench.now_ms >= intent.send_before_ms or outcome in {"lost", "on its way", "arrived"}:
            in_time = self.bench.now_ms < intent.send_before_ms
            node.arrives_by_ms = self.bench.now_ms + LATE_MS if in_time and outcome == "on its way" else None
            node.status = PENDING if in_time and outcome == "arrived" else ABSENT
            self.bench.fail(intent.key, permanent=bool(fee))
            return
        node.fee = fee
        node.status = {"paid": PAID, "refused": FAILED, "pending": PENDING}.get(outcome, ABSENT)
        said = {"paid": PAID, "pending": PENDING}.get(outcome, FAILED)
        self.bench.finish(intent.key, PayoutReport(said, Msat(fee)))
        if said is PAID:
            self.payout_ends(fee)

    @precondition(lambda self: any(o.arrives_by_ms is not None or o.status is PENDING for o in self.outgoing.values()))
    @rule(arrives=st.booleans(), paid=st.booleans(), fee=fees)
    def node_moves_on(self, arrives: bool, paid: bool, fee: int) -> None:
        for node in self.outgoing.values():
            if node.arrives_by_ms is not None:
                node.arrive(arrives)
            elif node.status is PENDING:
                node.status, node.fee = PAID if paid else FAILED, fee

    @precondition(lambda self: self.running(LookUpPayout))
    @rule(down=st.booleans(), early=st.booleans())
    def payout_is_looked_up(self, down: bool, early: bool = False) -> None:
        """`early`: the node calls a payment failed that it has not begun, or does not find just now."""
        (intent,) = self.running(LookUpPayout)
        node, now_ms = self.outgoing[intent.target.payment_hash], self.bench.now_ms
        if down and node.status is not PAID:
            assert self.bench.fail(intent.key).events == ()
            return
        early = early and node.status in {PENDING, ABSENT} and now_ms < intent.failure_final_at_ms
        said = PayoutReport(FAILED if early else node.status, Msat(node.fee))
        if (report := verdict(said, intent.failure_final_at_ms, now_ms)) is None:
            return
        self.bench.finish(intent.key, report)
        if report.status is not PENDING:
            self.payout_ends(node.fee if report.status is PAID else None)

    # Time and trouble

    @property
    def due(self) -> bool:
        """Return whether the session has asked to be woken by now."""
        due_ms = self.bench.behaviour.due_ms(self.bench.state)
        return due_ms is not None and due_ms <= self.bench.now_ms

    @rule(ms=times, arrives=st.booleans(), awake=st.booleans())
    def time_passes(self, ms: int, arrives: bool, awake: bool) -> None:
        self.bench.now_ms += ms
        for node in self.outgoing.values():
            if node.arrives_by_ms is not None and node.arrives_by_ms <= self.bench.now_ms:
                node.arrive(arrives)
        if awake:
            self.wakes()
            if self.running(LookUpPayout):
                self.payout_is_looked_up(down=False)
            if self.running(LookUpInvoice):
                self.invoice_is_looked_up(0)

    @precondition(lambda self: self.due)
    @rule()
    def wakes(self) -> None:
        due = self.due
        decision = self.bench.send(Wake())
        if self.bench.now_ms >= self.account.expires_at_ms and not self.account.over:
            assert due
            self.account.end("expired")
        else:
            assert decision.events == ()
        for payment_hash in self.account.pending:
            late = self.payable_until_ms[payment_hash] + 1_000 <= self.bench.now_ms
            assert not late or f"look_up:{payment_hash}" in self.bench.running

    @precondition(lambda self: self.bench.running)
    @rule(at=picks, arrives=st.booleans())
    def host_dies(self, at: int, arrives: bool) -> None:
        for intent in self.running(SendPayout):
            # Nobody knows whether the call was made; if it was, it may be on its way for a while.
            node = self.outgoing[intent.target.payment_hash]
            node.calls += 1
            if arrives and self.bench.now_ms < intent.send_before_ms:
                node.arrives_by_ms = self.bench.now_ms + LATE_MS
        self.bench.crash(at % (len(self.bench.journal) + 1))
        for name in list(self.account.held):
            self.account.end_request(name, 0)
        assert self.running(SendPayout) == self.running(AnswerRequest) == self.running(RelayRequest) == []
        assert len(self.running(LookUpPayout)) == (self.account.payout is not None)
        assert {intent.key.removeprefix("top_up:") for intent in self.running(IssueInvoice)} == set(
            self.account.ordered
        )

    # What must hold

    @invariant()
    def view_is_the_account(self) -> None:
        if self.bench.session is None:
            return
        account, seen = self.account, self.bench.view()
        assert self.bench.money() == (
            account.balance,
            account.held_msat,
            account.spent,
            account.owed_msat,
            account.paid_back,
        )
        assert min(account.balance, account.spent, account.owed, account.paid_back) >= 0
        assert (seen.deposited_msat.value, seen.state, seen.expires_at_ms, seen.refund.state) == (
            account.deposited,
            account.state,
            account.expires_at_ms,
            account.refund_state,
        )
        offered = {found.payment_hash: found.amount_sats for found in seen.pending_invoices}
        assert offered == ({} if account.over else account.pending)

    @invariant()
    def ledger_adds_up(self) -> None:
        account, balance = self.account, 0
        if len(self.bench.journal) == self.added_up:
            return
        self.added_up = len(self.bench.journal)
        sums: Counter[str] = Counter()
        deposits: Counter[str] = Counter()
        requests: Counter[str] = Counter()
        counters: Counter[str] = Counter()
        held_at: dict[str | None, int] = {}
        for number, entry in enumerate(self.bench.ledger(), 1):
            amount = entry.amount_msat.value
            balance += {"deposit": amount, "release": amount, "debit": 0}.get(entry.kind, -amount)
            assert (entry.seq, entry.balance_msat.value) == (number, balance)
            fee = entry.kind == "debit" and entry.request_id is None
            sums["fee" if fee else entry.kind] += amount
            if entry.kind == "deposit":
                assert entry.payment_hash is not None and entry.payment_hash not in deposits
                deposits[entry.payment_hash] = amount
            if entry.request_id is not None and entry.kind != "refund":
                requests[entry.request_id] += amount if entry.kind == "hold" else -amount
                assert requests[entry.request_id] >= 0
            held_at[entry.request_id] = entry.at_ms if entry.kind == "hold" else held_at.get(entry.request_id, 0)
            for name in (entry.spender or "").split("-"):
                counter = count_of(name, held_at[entry.request_id])
                counters[counter] += {"hold": amount, "release": -amount}.get(entry.kind, 0)
                assert counters[counter] <= account.limits.get(counter, counters[counter])
        assert balance == account.balance
        assert dict(deposits) == account.credited
        assert {k: v for k, v in requests.items() if v} == {
            f"req_{name.removeprefix('ask:')}": hold.amount for name, hold in account.held.items()
        }
        assert sums["debit"] + sums["fee"] == account.spent
        assert sums["refund"] - sums["fee"] == account.owed_msat + account.paid_back
        assert {name: counters[name] for name in account.used} == account.used
        assert self.bench.state.counters == {name: Msat(used) for name, used in account.present.items() if used}

    @invariant()
    def node_pays_what_was_owed_and_once(self) -> None:
        account, paid = self.account, 0
        for payment_hash, node in self.outgoing.items():
            assert node.calls <= 1
            if node.status is PAID:
                paid += self.targets[payment_hash].amount_msat.value
            if account.paid_out.get(payment_hash) is False:
                assert node.status in {FAILED, ABSENT} and node.arrives_by_ms is None
        under_way = account.payout.amount if account.payout else 0
        assert account.paid_back <= paid <= account.paid_back + under_way

    def teardown(self) -> None:
        """Everything can be brought to its end, and every msat that came in is spent, owed or paid back."""
        if self.bench.session is None:
            return
        self._end_what_is_under_way()
        self.bench.now_ms += 2 * HOUR_MS
        self.wakes()
        while self.running(LookUpInvoice):
            self.invoice_is_looked_up(0)
        for i in range(len(self.received)):
            self.node_tells(i)
        assert self.account.credited == self.received
        self.close(None, "last", 0)
        account, rounds = self.account, self.pay_the_rest()
        assert rounds == 0 or self.bench.view().refund.state == "paid"
        assert account.held_msat == account.balance == 0 and account.payout is None
        assert account.deposited == account.spent + account.owed + account.paid_back
        assert self.bench.behaviour.due_ms(self.bench.state) is None
        self.view_is_the_account()
        self.ledger_adds_up()
        self.node_pays_what_was_owed_and_once()

    def pay_the_rest(self) -> int:
        """Have all that is owed paid back, and return in how many payments that was."""
        rounds = 0
        while most := self._most(self.account.owed):
            to = target(self.number(), most)
            self.targets[to.payment_hash] = to
            self.close(to, f"last{rounds}", most * 1_000)
            self.payout_is_sent("paid", 0)
            rounds += 1
        return rounds

    def _end_what_is_under_way(self) -> None:
        for _ in self.running(AnswerRequest) + self.running(RelayRequest):
            self.request_fails(0, True)
        for _ in self.running(IssueInvoice):
            self.invoice_is_made(0, True)
        if self.running(SendPayout):
            self.payout_is_sent("arrived", 0)
        self.time_passes(LATE_MS + 2_000, arrives=True, awake=False)
        self.node_moves_on(arrives=True, paid=True, fee=0)
        if self.running(LookUpPayout):
            self.payout_is_looked_up(down=False)


# Making a failure small takes longer than finding it.
def test_no_interleaving_loses_a_payment_or_counts_or_pays_one_twice() -> None:
    run_state_machine_as_test(SessionMachine, settings=settings(max_examples=1_000, deadline=None))
