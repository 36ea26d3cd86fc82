"""Messages between the router and the hosts: calls there, answers back, both in batches."""

from __future__ import annotations

import msgspec

from .domain.behaviour import Command, Reply
from .domain.codec import JournalCodec, MessageCodec
from .domain.credentials.idempotency_keys import KeptUnder
from .domain.demo import AskDemo, DemoAnswer
from .domain.errors import Refusal
from .domain.job.state import CreateJob, GetJob, JobView, RefundJob, WatchJob
from .domain.llm.answers import Held, TextDelta
from .domain.llm.relays import RelayBytes, RelayHead
from .domain.payments.invoices import Settle, Settled
from .domain.receipts import GetJobReceipt, GetRequestReceipt, Receipt
from .domain.session.messages import (
    Ask,
    CheckPayment,
    CloseSession,
    Counted,
    CountTokens,
    GetLedger,
    GetSession,
    LedgerPage,
    OpenSession,
    Relay,
    Relayed,
    RequestAnswer,
    SessionCreated,
    SessionView,
    TopUp,
    TopUpInvoice,
)


class Ping(Command, frozen=True, tag="ping"):
    """Question to a host whether it is there and its store answers. No actor sees it."""


class Pong(Reply, frozen=True, tag="pong"):
    """Answer to `Ping`: the host is there, and its store answers."""


class NotOwner(Reply, frozen=True, tag="not_owner"):
    """Refusal of a host that does not own the actor's partition (any more): the router must look up the owner again."""


_SessionQuestion = GetSession | GetLedger | GetRequestReceipt | CountTokens | CheckPayment
_SessionCommand = OpenSession | TopUp | Ask | Relay | CloseSession | _SessionQuestion
_Relaying = Held | RelayHead | RelayBytes | Relayed | Counted
_SessionReply = SessionCreated | SessionView | TopUpInvoice | TextDelta | RequestAnswer | LedgerPage | _Relaying
WireCommand = CreateJob | GetJob | WatchJob | GetJobReceipt | RefundJob | _SessionCommand | AskDemo | Settle | Ping
WireReply = JobView | Receipt | _SessionReply | DemoAnswer | Settled | Pong | NotOwner | Refusal


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Command for an actor. `call_id` is unique within the inbox that the answers go to.

    `resent`: it was sent before, to a host that may have carried it out and died before it could answer.
    """

    call_id: int
    actor_id: str
    command: WireCommand
    resent: bool = False


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Notice that the caller no longer waits: a watch ends, other calls go on unanswered.

    `inboxes`: those of the router's former connections, in which the call may stand, too.
    """

    call_id: int
    inboxes: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """One answer to a call; more follow until `last`."""

    call_id: int
    reply: WireReply
    last: bool = True


CALLS: MessageCodec[Call | Cancel] = MessageCodec(Call | Cancel)
REPLIES: JournalCodec[WireReply | KeptUnder] = JournalCodec(WireReply | KeptUnder)
"""Replies as the store keeps them for repeated calls."""
ANSWERS: MessageCodec[Answer] = MessageCodec(Answer)
