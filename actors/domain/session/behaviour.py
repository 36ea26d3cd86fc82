"""The behaviour of a session: which command is possible in which state, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from .. import webhooks
from ..behaviour import NOTHING, Command, Decision, Done, Event, Failed, History, Intent, Reply, TakeUp, Wake
from ..codec import JournalCodec
from ..credentials.caveats import Action
from ..errors import Code, Refusal, not_found
from ..llm.intents import AnswerRequest, CountPrompt, RelayRequest
from ..money import ZERO, Msat
from ..payments import payout_flow
from ..payments.intents import IssueInvoice, LookUpInvoice, LookUpPayout, ResolveRefund, SendPayout
from ..payments.invoices import Settle, ShowInvoice
from ..payments.payouts import LedgerEvent
from ..receipts import GetRequestReceipt
from ..webhooks import Notify
from . import former_keys, notices, payments, receipts, refunds, requests
from . import queries as questions
from . import sums as session_sums
from .evolve import evolve, follow, place
from .ledger import entries
from .messages import (
    Ask,
    CheckPayment,
    CloseSession,
    CountTokens,
    GetLedger,
    GetSession,
    LedgerPage,
    NameRefundDestination,
    OpenSession,
    PlanPayout,
    Relay,
    TopUp,
)
from .pricing import SessionTerms
from .state import Session, SessionEvent, SessionExpired

_CODEC: Final[JournalCodec[Event]] = JournalCodec(SessionEvent)
_SNAPSHOTS: Final[JournalCodec[Session]] = JournalCodec(Session)

# The Idempotency-Key that opened an unpaid session is kept at least a day.
# For a command without a grant, or with one of another generation of the session's key.
_FOREIGN: Final = Refusal(Code.INVALID_CREDENTIAL, "This credential is not valid any more.")
_KEEP_UNPAID_MS: Final = 24 * 3_600_000
# The host that began requests and payouts looks after them. If it dies and no client calls the session, the next host
# finds the session due after this time.
_UNDER_WAY_MS: Final = 30_000


class SessionBehaviour:
    """A session, as pure functions (see `Behaviour`)."""

    def __init__(self, terms: SessionTerms) -> None:
        self._terms = terms

    def decide(self, actor_id: str, state: Session | None, command: Command, now_ms: int) -> Decision:
        """Decide what follows from the command in this state."""
        match command:
            case OpenSession():
                return payments.create(self._terms, actor_id, state, command)
            case Done(intent=IssueInvoice(context=OpenSession())) | Failed(intent=IssueInvoice(context=OpenSession())):
                return payments.opened(self._terms, actor_id, state, command, now_ms)
        if state is None:
            return Decision(reply=not_found("session"))
        match command:
            case Done() | Failed():
                return self._outcome(actor_id, state, command, now_ms)
            case Settle():
                return payments.settle(self._terms, actor_id, state, command, now_ms)
            case ShowInvoice():
                return questions.shown_invoice(state, command)
            case Wake():
                return _wake(self._terms, actor_id, state, now_ms)
            case TakeUp():
                return _take_up(self._terms, actor_id, state, now_ms)
        return self._of_holder(actor_id, state, command, now_ms)

    def _of_holder(self, session_id: str, session: Session, command: Command, now_ms: int) -> Decision:
        grant = command.grant
        if grant is None or grant.generation != session.generation:
            return Decision(reply=_FOREIGN)
        match command:
            case Ask() | Relay():
                return requests.ask(self._terms, session, command, now_ms)
            case CountTokens():
                return questions.count_tokens(session, command, now_ms)
            case TopUp():
                return payments.top_up(self._terms, session, command, now_ms)
            case CloseSession():
                return payments.close(self._terms, session_id, session, command, now_ms)
            case PlanPayout():
                return refunds.planned(self._terms, session, command, now_ms)
            case NameRefundDestination():
                named = refunds.name(session, command, now_ms)
                return replace(
                    named, reply=named.reply or payments.view(self._terms, session_id, named.after or session)
                )
        refusal = grant.refusal(Action.READ, now_ms)
        if refusal is not None:
            return Decision(reply=refusal)
        match command:
            case CheckPayment() if (decision := questions.check_payment(session, command)) is not None:
                return decision
            case GetSession() | CheckPayment():
                return Decision(reply=payments.view(self._terms, session_id, session))
            case GetRequestReceipt():
                return receipts.receipt(session_id, session, command)
            case GetLedger(after=after, limit=limit):
                return Decision(history=History(after, limit))
        return Decision(reply=not_found("command of a session"))

    def _outcome(self, session_id: str, session: Session, command: Done | Failed, now_ms: int) -> Decision:
        match command.intent:
            case AnswerRequest() | RelayRequest():
                return requests.ended(self._terms, session, command, now_ms)
            case CountPrompt():
                return questions.counted(command)
            case IssueInvoice():
                return payments.topped_up(session, command, now_ms)
            case LookUpInvoice() if isinstance(command, Done):
                return payments.looked_up(self._terms, session_id, session, command, now_ms)
            case SendPayout() | LookUpPayout():
                return payments.paid_out(self._terms, session_id, session, command, now_ms)
            case ResolveRefund():
                return refunds.resolved(self._terms, session, command, now_ms)
            case Notify():
                told = webhooks.outcome(session.outbox, command, now_ms)
                if told is None:
                    return NOTHING
                after, tried = place(session, told)
                return Decision((tried,), after=after)
        return NOTHING

    # State

    def evolve(self, actor_id: str, state: Session | None, event: Event) -> Session:
        """Return the state after the event. Raises `BooksError`, or `MoneyError` for an amount that isn't there."""
        return evolve(state, event)

    def intents(self, actor_id: str, state: Session) -> Sequence[Intent]:
        """Return the intents for top-up invoices, the payout or the try before it, and untried notices.

        Requests are left out, because their text is not in the state.
        """
        orders = [payments.order(self._terms, actor_id, top_up) for top_up in state.top_ups.values()]
        payouts = payout_flow.intents(actor_id, state.refunds, self._terms.routing_fees, state.settled)
        told = notices.attempts(actor_id, state, webhooks.untried(state.outbox))
        return (*orders, *payouts, *refunds.tries(self._terms, state), *told)

    def liability(self, state: Session | None) -> Msat:
        """Return the amount that the wallet must hold for the session."""
        return ZERO if state is None else state.books.liability

    def sums(self, before: Session | None, events: Sequence[Event], after: Session) -> Mapping[str, int]:
        """Return what the events add to the sums of their hour, see `Behaviour.sums`."""
        return session_sums.sums(before, events, after)

    def done(self, state: Session) -> bool:
        """Return True as defined by `Behaviour.done`; open invoices, holds and notices keep the session going."""
        open_ = state.invoices or state.top_ups or state.holds or (state.outbox and state.outbox.notices)
        payable = state.books.pending or state.books.payable(state.refunds, self._terms.routing_fees)
        return bool(state.ended and state.books.deposited and not open_ and not payable)

    def due_ms(self, state: Session) -> int | None:
        """Return the next time due: an expiry, a notice's attempt, or a check on what is under way."""
        times = [invoice.expires_at_ms + payments.EXPIRY_GRACE_MS for invoice in state.invoices.values()]
        times += [hold.at_ms + _UNDER_WAY_MS for hold in state.holds.values()]
        times += [*webhooks.next_ms(state.outbox), *refunds.due_ms(self._terms, state)]
        if not state.ended:
            times.append(state.expires_at_ms)
        if state.refunds.under_way is not None:
            times.append(state.refunds.under_way.started_at_ms + _UNDER_WAY_MS)
        return min(times, default=None)

    def keep_ms(self, state: Session, now_ms: int) -> int | None:
        """Return the retention of an unpaid session; a session that took money is kept for good."""
        if state.books.deposited:
            return None
        return max(state.first_expires_at_ms - now_ms, 0) + _KEEP_UNPAID_MS

    def view(self, actor_id: str, state: Session) -> Reply | None:
        """Return None: a session can't be watched."""
        return None

    def final(self, state: Session) -> bool:
        """Return False: what is owed may be paid back at any time."""
        return False

    def again(
        self, actor_id: str, state: Session | None, command: Command, reply: Reply, now_ms: int, *, former: bool
    ) -> Decision | None:
        """Return the kept reply to a valid credential; None if its own operation of this name is under way."""
        assert isinstance(command, Ask | Relay | TopUp | CloseSession | PlanPayout)
        if state is not None and command.grant.generation != state.generation:
            return Decision(reply=_FOREIGN)
        if state is not None and (command.once.name in state.holds or command.once.name in state.top_ups):
            return None  # The credential's own operation comes before an answer that a derived one bought.
        return former_keys.again(command, reply, now_ms) if former else Decision(reply=reply)

    def history(self, events: Sequence[Event], asked: History) -> Reply | Refusal:
        """Return the ledger entries after number `asked.after`, or the answer or receipt that was searched for."""
        if isinstance(asked.context, former_keys.Former):
            return former_keys.told(events, asked.context)
        if asked.holding is not None:
            return receipts.told(events, *asked.context)
        found = [entry for event in events for entry in entries(event) if entry.seq > asked.after]
        return LedgerPage(tuple(found[: asked.limit]))

    def encode_event(self, event: Event) -> bytes:
        """Encode the event as the journal keeps it."""
        return _CODEC.encode(event)

    def decode_event(self, data: bytes) -> Event:
        """Decode an event of the journal. Raises `UnknownEventError`."""
        return _CODEC.decode(data)

    def encode_state(self, state: Session) -> bytes:
        """Encode the state as a snapshot."""
        return _SNAPSHOTS.encode(state)

    def decode_state(self, data: bytes) -> Session:
        """Decode a state from its snapshot. Raises `UnknownEventError`."""
        return _SNAPSHOTS.decode(data)


def _wake(terms: SessionTerms, session_id: str, session: Session, now_ms: int) -> Decision:
    """End an expired session, and begin what is due."""
    after = session
    expired: tuple[LedgerEvent, ...] = ()
    if not session.ended and now_ms >= session.expires_at_ms:
        after, expired = follow(session, SessionExpired(now_ms, refunded_msat=session.books.balance))
    return Decision(expired, intents=_due(terms, session_id, after, now_ms), after=after)


def _due(terms: SessionTerms, session_id: str, session: Session, now_ms: int) -> tuple[Intent, ...]:
    """Return look-ups of expired invoices, the refund's try that is due, and overdue notices."""
    # The node has the last word: an invoice may have been paid while no host was listening.
    look_ups = tuple(
        questions.look_up(payment_hash)
        for payment_hash, invoice in session.invoices.items()
        if now_ms >= invoice.expires_at_ms + payments.EXPIRY_GRACE_MS
    )
    told = notices.attempts(session_id, session, webhooks.overdue(session.outbox, now_ms))
    return (*look_ups, *refunds.overdue(terms, session, now_ms), *told)


def _take_up(terms: SessionTerms, session_id: str, session: Session, now_ms: int) -> Decision:
    """Release the holds of requests that died with their host, and look up a payout that was under way.

    No client got the answers of those requests, so nothing is charged for them.
    """
    lost: list[LedgerEvent] = [requests.released(session, hold, now_ms) for hold in session.holds.values()]
    payout = payout_flow.taken_up(session.refunds, now_ms)
    after, events = follow(session, *lost, *(() if payout is None else (payout,)))
    return Decision(events, intents=_due(terms, session_id, after, now_ms), after=after)
