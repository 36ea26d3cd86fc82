"""Messages between the router and the hosts: calls there, answers back, both in batches."""

from __future__ import annotations

from functools import cache
from typing import Any, Never, TypeVar, get_args, get_origin

import msgspec
from typing_extensions import get_original_bases

from .domain.behaviour import Command, Reply
from .domain.codec import JournalCodec, MessageCodec
from .domain.demo import AskDemo, DemoAnswer
from .domain.errors import Refusal
from .domain.idempotency_keys import KeptUnder
from .domain.job.state import CreateJob, GetJob, JobView, PlanJobPayout, RefundJob, WatchJob
from .domain.llm.answers import Held, TextDelta
from .domain.llm.relays import RelayBytes, RelayHead
from .domain.payments.invoices import Settle, Settled, ShowInvoice, ShownInvoice
from .domain.payments.payout_plan import PayoutPlan
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
    NameRefundDestination,
    OpenSession,
    PlanPayout,
    Relay,
    Relayed,
    RequestAnswer,
    SessionCreated,
    SessionView,
    TopUp,
    TopUpInvoice,
)

ReplyT = TypeVar("ReplyT", bound=Reply)
PartT = TypeVar("PartT", bound=Reply)


class Pong(Reply, frozen=True, tag="pong"):
    """Answer to `Ping`: the host is there, and its store answers."""


class Ping(Command[Pong, Never], frozen=True, tag="ping"):
    """Question to a host whether it is there and its store answers. No actor sees it."""


class NotOwner(Reply, frozen=True, tag="not_owner"):
    """Refusal of a host that does not own the actor's partition (any more): the router must look up the owner again."""


_SessionQuestion = GetSession | GetLedger | GetRequestReceipt | CountTokens | CheckPayment
_Refunding = CloseSession | PlanPayout | NameRefundDestination
_SessionCommand = OpenSession | TopUp | Ask | Relay | _Refunding | _SessionQuestion
_Relaying = Held | RelayHead | RelayBytes | Relayed | Counted
_SessionReply = SessionCreated | SessionView | TopUpInvoice | TextDelta | RequestAnswer | LedgerPage | _Relaying
_JobCommand = CreateJob | GetJob | WatchJob | GetJobReceipt | PlanJobPayout | RefundJob
WireCommand = _JobCommand | _SessionCommand | AskDemo | Settle | ShowInvoice | Ping
_Paying = Settled | ShownInvoice | PayoutPlan
WireReply = JobView | Receipt | _SessionReply | DemoAnswer | _Paying | Pong | NotOwner | Refusal


def answer_types(command: type[Command[ReplyT, PartT]]) -> tuple[type[ReplyT], tuple[type[PartT], ...]]:
    """Return the type of reply that a class of commands declares, and the types of parts that come before it."""
    reply, parts = _declared(command)
    return reply, parts


@cache
def _declared(command: type[Command]) -> tuple[Any, Any]:
    (of,) = (base for base in get_original_bases(command) if get_origin(base) is Command)
    reply, parts = get_args(of)
    return reply, (parts,) if isinstance(parts, type) else get_args(parts)


class WrongReplyError(Exception):
    """Error for an actor that answered a command with a type that the command does not declare: a defect of ours."""

    def __init__(self, command: type[Command], reply: Reply | Refusal) -> None:
        super().__init__(f"{command.__name__} was answered with {type(reply).__name__}")


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Command for an actor. `call_id` is unique within the reply queue that the answers go to.

    `resent`: it was sent before, to a host that may have carried it out and died before it could answer. `request_id`:
    the HTTP request that it belongs to, for logs; "" for a call of our own, or of an earlier version. `traceparent`:
    its span, "" where it is not traced.
    """

    call_id: int
    actor_id: str
    command: WireCommand
    resent: bool = False
    request_id: str = ""
    traceparent: str = ""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Notice that the caller no longer waits: a watch ends, other calls go on unanswered.

    `queue_ids`: those of the router's former connections, in which the call may stand, too.
    """

    call_id: int
    queue_ids: tuple[str, ...] = msgspec.field(default=(), name="inboxes")


class Answer(msgspec.Struct, frozen=True):
    """One answer to a call; more follow until `last`."""

    call_id: int
    reply: WireReply
    last: bool = True


CALLS: MessageCodec[Call | Cancel] = MessageCodec(Call | Cancel)
REPLIES: JournalCodec[WireReply | KeptUnder] = JournalCodec(WireReply | KeptUnder)
"""Replies as the store keeps them for repeated calls."""
ANSWERS: MessageCodec[Answer] = MessageCodec(Answer)
