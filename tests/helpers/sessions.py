"""Builders for tests about sessions: terms with round figures, credentials, commands, and a session without a host."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from satmeter.actors.domain import idempotency_keys
from satmeter.actors.domain.behaviour import Command, Decision, Done, Failed, Intent, Mark, Once, TakeUp
from satmeter.actors.domain.credentials.caveats import Action, Grant, SpendLimit
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.errors import Refusal, idempotency_conflict
from satmeter.actors.domain.llm.answers import Completion, Ending, Evaluation, RequestOutcome, Verdict
from satmeter.actors.domain.llm.intents import AnswerRequest
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Invoice, Settle
from satmeter.actors.domain.payments.payouts import LedgerEvent, PayoutTarget
from satmeter.actors.domain.pricing import BtcPrice, Size, Usage
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.evolve import follow
from satmeter.actors.domain.session.messages import (
    Ask,
    CloseSession,
    GetLedger,
    GetSession,
    LedgerEntry,
    LedgerPage,
    OpenSession,
    SessionView,
    TopUp,
)
from satmeter.actors.domain.session.pricing import SessionTerms
from satmeter.actors.domain.session.state import Session
from satmeter.actors.domain.webhooks import Webhook
from tests.helpers.jobs import BTC, FEES, HOUR_MS, START_MS, TERMS, USAGE, invoice

SESSION_ID = "ses_0123456789abcdefghijklmnopqrstuv"
DAY_MS = 24 * HOUR_MS
# So long after a payout's call a node that has never heard of it is not believed.
ABSENT_MS = 300_000
# With the rates, margin and exchange rate of the tests about jobs, a token of input costs 2.8 msat, one of output 14,
# and infrastructure 700. "say hello" (9 bytes, 11 as JSON) is then held at 4,536 msat and 14 for each token of answer.
SESSION_TERMS = SessionTerms(
    terms=TERMS,
    eval_model="haiku",
    eval_overhead_tokens=300,
    eval_max_tokens=200,
    work_overhead_tokens=50,
    least_tokens=100,
    default_tokens=1_000,
    most_tokens=4_000,
    life_ms=DAY_MS,
    invoice_expiry_s=3_600,
    pending_max=3,
    routing_fees=FEES,
)
DEPOSIT = invoice(1, 100)
FULL = Grant(generation=1)


def once(name: str = "key", digest: str = "digest", *, keyed: bool = True) -> Once:
    """An operation that is done once."""
    return Once(name, digest, keyed)


def grant(
    *limits: tuple[str, int] | tuple[str, int, Period],
    per_request: int | None = None,
    expires_at_s: int | None = None,
    actions: frozenset[Action] | None = None,
    spender: str | None = None,
) -> Grant:
    """A narrowed credential; a limit is the name of its counter, msat, and the period at which it renews."""
    return Grant(
        generation=1,
        spend_limits=tuple(SpendLimit(counter, Msat(msat), *period) for counter, msat, *period in limits),
        max_msat_per_request=None if per_request is None else Msat(per_request),
        expires_at_s=expires_at_s,
        actions=actions,
        spender=spender,
    )


def ask(
    name: str = "a",
    request: str = "say hello",
    *,
    digest: str = "digest",
    keyed: bool = True,
    max_tokens: int | None = None,
    model: str = "sonnet",
    stream: bool = False,
    by: Grant = FULL,
    btc_price: BtcPrice = BTC,
) -> Ask:
    """A request; its id is `req_` and the name."""
    return Ask(
        request_id=f"req_{name}",
        request=request,
        model=model,
        max_tokens=max_tokens,
        stream=stream,
        once=once(f"ask:{name}", digest, keyed=keyed),
        grant=by,
        btc_price=btc_price,
    )


def top_up(
    name: str = "t", sats: int = 100, *, digest: str = "digest", by: Grant = FULL, any_open: bool = False
) -> TopUp:
    """A top-up."""
    return TopUp(sats, once(f"top_up:{name}", digest), by, any_open)


def target(number: int, sats: int, network: str = "bcrt") -> PayoutTarget:
    """The client's invoice number so and so."""
    return PayoutTarget(f"ln{network}{sats}n{number}", f"{number:064x}", Msat.from_sats(sats))


def close(
    to: PayoutTarget | None = None,
    name: str = "c",
    *,
    digest: str = "digest",
    keyed: bool = True,
    by: Grant = FULL,
) -> CloseSession:
    """A closing."""
    return CloseSession(to, once(f"close:{name}", digest, keyed=keyed), by)


def evaluation(usage: Usage | None = USAGE, *, accepted: bool = True) -> Evaluation:
    """A verdict; with the usual usage it costs 3,080 msat."""
    return Evaluation(Verdict(accepted, "because", Size.SMALL), "haiku", usage)


def completed(
    usage: Usage | None = USAGE,
    *,
    judged: Usage | None = USAGE,
    ending: Ending = Ending.COMPLETE,
    text: str = "the answer",
) -> RequestOutcome:
    """An answer; with the usual usages it costs 3,080 + 3,780 msat."""
    return RequestOutcome(ending, evaluation(judged), Completion(text, "sonnet", usage, "end_turn"))


def rejected(usage: Usage | None = USAGE) -> RequestOutcome:
    """A rejection."""
    return RequestOutcome(Ending.REJECTED, evaluation(usage, accepted=False))


def refusal_of(decision: Decision) -> Refusal:
    """The refusal that is the reply."""
    assert isinstance(decision.reply, Refusal)
    return decision.reply


class SessionBench:
    """A session without a host: decides, keeps journal and answers as their bytes are kept, and folds.

    running: what is under way outside, by its key, each once; a test ends it with `finish` or `fail`.
    """

    def __init__(self, terms: SessionTerms = SESSION_TERMS) -> None:
        self.behaviour = SessionBehaviour(terms)
        self.session: Session | None = None
        self.journal: list[bytes] = []
        self.marks: dict[str, Mark] = {}
        self.running: dict[str, Intent] = {}
        self.now_ms = START_MS

    @property
    def state(self) -> Session:
        """The session, which must exist."""
        assert self.session is not None
        return self.session

    def send(self, command: Command, *, resent: bool = False) -> Decision:
        """Answers what was answered before, or decides; then writes, folds and starts what is to be done outside."""
        kept = self._kept(command, resent)
        if kept is not None:
            return kept
        decision = self.behaviour.decide(SESSION_ID, self.session, command, self.now_ms)
        before = self.session
        for event in decision.events:
            self.session = self.behaviour.evolve(SESSION_ID, self.session, event)
            self.journal.append(self.behaviour.encode_event(event))
        if before is not None:
            # What decides on several events folds each but once, before its place in the ledger is known.
            unplaced = [
                replace(event, seq=0, balance_msat=Msat(0))
                for event in decision.events
                if isinstance(event, LedgerEvent)
            ]
            assert follow(before, *unplaced) == (self.session, decision.events)
            if decision.events or decision.after is not None:
                # A host takes this state without folding, so it must be the one that a reader of the journal gets.
                assert decision.after == self.session
        self.marks.update({mark.once.name: mark for mark in decision.marks})
        if isinstance(command, Done | Failed):
            self.running.pop(command.intent.key, None)
        intents = () if self.session is None else self.behaviour.intents(SESSION_ID, self.session)
        for intent in (*decision.intents, *intents):
            self.running.setdefault(intent.key, intent)
        return decision

    def _kept(self, command: Command, resent: bool) -> Decision | None:
        asked = getattr(command, "once", None)
        if not isinstance(asked, Once) or not (asked.keyed or resent):
            return None
        done = idempotency_keys.found(asked, self._known)
        if done is None:
            return None
        if done.known.digest != asked.digest:
            return Decision(reply=idempotency_conflict())
        reply = done.known.reply
        again = self.behaviour.again(SESSION_ID, self.session, command, reply, self.now_ms, former=done.former)
        if again is None or again.history is None:
            return again
        needle = (again.history.holding or "").encode()
        events = [self.behaviour.decode_event(data) for data in reversed(self.journal) if needle in data]
        return Decision(reply=self.behaviour.history(events[: again.history.limit], again.history))

    def _known(self, name: str) -> idempotency_keys.Known | None:
        mark = self.marks.get(name)
        return (
            None
            if mark is None
            else idempotency_keys.Known(
                mark.once.digest, mark.reply, mark.once.lineage[-1] if mark.once.lineage else ""
            )
        )

    def finish(self, key: str, result: Any) -> Decision:
        """Ends what runs under this key."""
        return self.send(Done(self.running[key], result))

    def fail(self, key: str, *, permanent: bool = False) -> Decision:
        """Lets fail what runs under this key."""
        return self.send(Failed(self.running[key], permanent))

    def restart(self, snapshot_at: int = 0) -> None:
        """Read the journal again, or a snapshot after so many events and the rest; what was under way is lost."""
        before, self.running = self.session, {}
        states = self._fold(self.journal[:snapshot_at], None)
        if states is not None:
            states = self.behaviour.decode_state(self.behaviour.encode_state(states))
        self.session = self._fold(self.journal[snapshot_at:], states)
        assert self.session == before

    def _fold(self, journal: list[bytes], session: Session | None) -> Session | None:
        for data in journal:
            session = self.behaviour.evolve(SESSION_ID, session, self.behaviour.decode_event(data))
        return session

    def crash(self, snapshot_at: int = 0) -> Decision:
        """Dies and is taken up by the next host."""
        self.restart(snapshot_at)
        return self.send(TakeUp())

    def open(
        self, deposit: Invoice = DEPOSIT, refund_to: str | None = None, webhook: Webhook | None = None
    ) -> Decision:
        """Creates the session with its deposit's invoice."""
        (order,) = self.send(OpenSession(deposit.amount_sats, "client", webhook, refund_to=refund_to)).intents
        return self.send(Done(order, deposit))

    def pay(self, paid: Invoice = DEPOSIT, msat: int | None = None) -> Decision:
        """The node says that the invoice was paid."""
        amount = Msat.from_sats(paid.amount_sats) if msat is None else Msat(msat)
        return self.send(Settle(paid.payment_hash, amount))

    def fund(self, sats: int = 100, refund_to: str | None = None, webhook: Webhook | None = None) -> None:
        """A new session with a settled deposit."""
        deposit = invoice(1, sats)
        self.open(deposit, refund_to, webhook)
        self.pay(deposit)

    def top_up_with(self, made: Invoice, name: str = "t") -> Decision:
        """A top-up's invoice is ordered and made."""
        topic = self.send(top_up(name, made.amount_sats)).wait_for
        assert topic is not None
        return self.finish(topic, made)

    def held(self, name: str = "a") -> AnswerRequest:
        """The request that runs under this name."""
        intent = self.running[f"request:ask:{name}"]
        assert isinstance(intent, AnswerRequest)
        return intent

    def answer(self, result: Any, name: str = "a") -> Decision:
        """Ends a request."""
        return self.finish(f"request:ask:{name}", result)

    def view(self) -> SessionView:
        """Return the session as its client sees it."""
        reply = self.send(GetSession(FULL)).reply
        assert isinstance(reply, SessionView)
        return reply

    def money(self) -> tuple[int, int, int, int, int]:
        """Balance, held, spent, owed and paid back, in msat, as the client sees them."""
        seen = self.view()
        parts = (seen.balance_msat, seen.held_msat, seen.spent_msat, seen.refund.owed_msat, seen.refund.paid_msat)
        balance, held, spent, owed, paid = (part.value for part in parts)
        assert seen.deposited_msat.value == balance + held + spent + owed + paid
        return balance, held, spent, owed, paid

    def ledger(self, after: int = 0, limit: int = 10_000) -> tuple[LedgerEntry, ...]:
        """A page of the ledger, from the journal's bytes."""
        asked = self.send(GetLedger(after, limit, FULL)).history
        assert asked is not None
        events = [self.behaviour.decode_event(data) for data in self.journal]
        later = [event for event in events if isinstance(event, LedgerEvent) and event.seq > asked.after]
        page = self.behaviour.history(later, asked)
        assert isinstance(page, LedgerPage)
        return page.entries
