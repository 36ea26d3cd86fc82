"""The world around one session, for a state machine: its client, wallet and model, and the account kept by hand."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from satmeter.actors.domain.behaviour import Decision, Reply
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.errors import Refusal
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import IssueInvoice, LookUpInvoice
from satmeter.actors.domain.payments.invoices import Settle, Settled, Settlement
from satmeter.actors.domain.session.messages import Ask, GetSession, OpenSession, Relay, SessionView, TopUpInvoice
from satmeter.scripts.audit.books import SessionBooks
from tests.helpers.jobs import HOUR_MS, START_MS, invoice
from tests.helpers.sessions import SESSION_ID, SessionBench, top_up
from tests.property.session_machine.model import HOURLY, LIFE_MS, Account, Limits, Wanted

# A parent, two that were derived from it, and one of another kin: a name stands for its own counter and its parents'.
# One has a budget that renews each hour, alone and beneath the parent.
KIN = {
    "p": {"p": 40_000},
    "pa": {"p": 40_000, "pa": 20_000},
    "pb": {"p": 40_000, "pb": 30_000},
    "q": {"q": 9_000},
    "h": {HOURLY: 20_000},
    "ph": {"p": 40_000, HOURLY: 20_000},
}

picks = st.integers(0, 1_000)
names = st.sampled_from("abc")
seldom = st.sampled_from([False] * 9 + [True])
few = st.integers(0, 3_000)
counts = st.one_of(
    st.tuples(few, few, few, few, few),
    st.tuples(*[st.sampled_from([0, 1, 10**8])] * 5),
    st.just((10**18, 10**18, 0, 0, 0)),
)
limits = st.builds(
    Limits,
    totals=st.sampled_from([{}, *KIN.values()]),
    per_request=st.sampled_from([None, None, None, 7_000, 20_000]),
    expired=seldom,
    forbidden=seldom,
)


class SessionWorld(RuleBasedStateMachine):
    """Rules of the session's world. Each does something and expects of the session what the account says."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = SessionBench()
        self.account = Account(START_MS + LIFE_MS)
        self.numbers = 1
        self.sats: dict[str, int] = {}
        self.payable_until_ms: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self.asked: list[tuple[Ask | Relay, Wanted, Limits]] = []
        self.answers: dict[str, tuple[str, Reply]] = {}
        self.refused = 0
        self.audited = 0

    # Helpers

    @property
    def worth_asking(self) -> bool:
        """Return whether something can be spent; where nothing can, a few refusals suffice."""
        return self.refused < 4 or self.account.unspendable(self.bench.now_ms) is None

    def number(self) -> int:
        """Return the number of the next invoice."""
        self.numbers += 1
        return self.numbers

    def running(self, kind: type[Any]) -> list[Any]:
        """Return the intents of this kind that are under way."""
        return [intent for intent in self.bench.running.values() if isinstance(intent, kind)]

    def code(self, decision: Decision) -> str:
        """Return the code of the refusal, if it is one."""
        return decision.reply.code.value if isinstance(decision.reply, Refusal) else ""

    def kept(self, name: str, digest: str, decision: Decision) -> bool:
        """Return whether the operation was answered before, as it then must be now."""
        if name not in self.answers:
            return False
        before, reply = self.answers[name]
        assert decision.events == () and decision.intents == ()
        assert decision.reply == reply if before == digest else self.code(decision) == "idempotency_conflict"
        return True

    @invariant()
    def the_auditor_s_own_books_agree(self) -> None:
        """From the raw fields of the journal: every part of the books, and what the wallet must hold."""
        if self.bench.session is None or len(self.bench.journal) == self.audited:
            return
        self.audited, own, books = len(self.bench.journal), SessionBooks(), self.bench.session.books
        for data in self.bench.journal:
            own.apply(msgspec.json.decode(data))
        parts = (books.deposited, books.balance, books.held, books.spent, books.owed, books.pending, books.refunded)
        audited = (own.received, own.available, own.held, own.spent, own.owed, own.pending, own.refunded)
        assert tuple(part.value for part in parts) == audited
        assert self.bench.behaviour.liability(self.bench.session).value == own.liability

    # The beginning

    @initialize(sats=st.integers(5, 200), down=st.booleans(), unpaid=seldom)
    def opened(self, sats: int, down: bool, unpaid: bool) -> None:
        command = OpenSession(sats, "client")
        first = self.bench.send(command)
        if down:
            assert first.wait_for in self.bench.fail(first.intents[0].key).answers
            assert self.bench.session is None
        self.bench.send(command)
        deposit = invoice(self.number(), sats)
        self.bench.finish(first.intents[0].key, deposit)
        self.sats[deposit.payment_hash] = sats
        self.payable_until_ms[deposit.payment_hash] = deposit.expires_at_ms
        self.account.pending[deposit.payment_hash] = sats
        assert getattr(self.bench.send(command).reply, "deposit_invoice", None) == deposit
        assert self.code(self.bench.send(OpenSession(sats + 1, "client"))) == "idempotency_conflict"
        if not unpaid:
            self.wallet_pays(0, 0)
            self.node_tells(0)

    # Money in

    @rule(pick=picks, extra=st.sampled_from([0, 0, 1, 999, 5_000]))
    def wallet_pays(self, pick: int, extra: int) -> None:
        payment_hash = list(self.sats)[pick % len(self.sats)]
        self.received.setdefault(payment_hash, self.sats[payment_hash] * 1_000 + extra)

    @precondition(lambda self: self.received)
    @rule(pick=picks)
    def node_tells(self, pick: int) -> None:
        payment_hash = list(self.received)[pick % len(self.received)]
        amount = self.received[payment_hash]
        applied = self.account.credit(payment_hash, amount, self.bench.now_ms)
        reply = self.bench.send(Settle(payment_hash, Msat(amount))).reply
        assert isinstance(reply, Settled) and reply.outcome == ("applied" if applied else "replayed")
        # What is done as well as it can be, once the first invoice is paid.
        self.bench.running.pop("release", None)

    @precondition(lambda self: len(self.bench.journal) % 6 == 0)
    @rule(amount=st.integers(1, 10**9))
    def stranger_comes(self, amount: int) -> None:
        assert self.code(self.bench.send(GetSession(Grant(generation=2)))) == "invalid_credential"
        decision = self.bench.send(Settle("f" * 64, Msat(amount)))
        assert self.code(decision) == "not_found" and decision.events == ()

    @precondition(lambda self: self.worth_asking)
    @rule(
        name=st.sampled_from("abcdef"),
        digest=st.sampled_from(["x", "x", "y"]),
        sats=st.integers(1, 300),
        any_open=st.booleans(),
    )
    def tops_up(self, name: str, digest: str, sats: int, any_open: bool) -> None:
        account, now_ms = self.account, self.bench.now_ms
        command = top_up(name, sats, digest=digest, any_open=any_open)
        topic = command.once.name
        decision = self.bench.send(command)
        if self.kept(topic, digest, decision):
            return
        if topic in account.ordered:
            same = account.ordered[topic] == digest
            assert decision.wait_for if same else self.code(decision) == "idempotency_conflict"
        elif code := account.unspendable(now_ms):
            assert self.code(decision) == code
            self.refused += 1
        elif isinstance(decision.reply, TopUpInvoice):
            offered = decision.reply.invoice
            assert any_open and account.pending[offered.payment_hash] == offered.amount_sats >= sats
            assert offered.expires_at_ms > now_ms
        elif len(account.pending) + len(account.ordered) >= 3:
            assert self.code(decision) == "rate_limited"
        else:
            account.ordered[topic] = digest
            assert decision.wait_for in self.bench.running

    @precondition(lambda self: self.running(IssueInvoice))
    @rule(pick=picks, down=st.booleans())
    def invoice_is_made(self, pick: int, down: bool) -> None:
        orders = self.running(IssueInvoice)
        order = orders[pick % len(orders)]
        topic = order.key.removeprefix("top_up:")
        digest = self.account.ordered.pop(topic)
        if down:
            (reply,) = self.bench.fail(order.key).answers.values()
            assert isinstance(reply, Refusal) and reply.code == "unavailable"
            return
        made = invoice(self.number(), order.amount_sats, self.bench.now_ms + HOUR_MS)
        (reply,) = self.bench.finish(order.key, made).answers.values()
        assert reply == TopUpInvoice(made)
        self.sats[made.payment_hash] = self.account.pending[made.payment_hash] = made.amount_sats
        self.payable_until_ms[made.payment_hash] = made.expires_at_ms
        self.answers[topic] = digest, reply

    @precondition(lambda self: self.running(LookUpInvoice))
    @rule(pick=picks)
    def invoice_is_looked_up(self, pick: int) -> None:
        asked = self.running(LookUpInvoice)
        payment_hash = asked[pick % len(asked)].payment_hash
        amount = self.received.get(payment_hash)
        if amount is not None:
            self.account.credit(payment_hash, amount, self.bench.now_ms)
        elif payment_hash in self.account.pending and self.bench.now_ms >= self.payable_until_ms[payment_hash] + 1_000:
            self.account.lapsed.add(payment_hash)
            del self.account.pending[payment_hash]
        found = None if amount is None else Settlement(payment_hash, Msat(amount), SESSION_ID)
        (view,) = self.bench.finish(f"look_up:{payment_hash}", found).answers.values()
        assert isinstance(view, SessionView) and view.deposited_msat.value == self.account.deposited
        # What is done as well as it can be, once the first invoice is paid.
        self.bench.running.pop("release", None)
