"""Answers that an earlier version kept: under one key for all credentials of a session, whichever bought them.

They are given to the credential that has the counts and the name of the one that bought them, as the journal tells. To
others they are a conflict, so that nothing is charged again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..behaviour import Decision, Event, History, Reply
from ..errors import Refusal, idempotency_conflict
from ..receipts import needle
from ..session.messages import Ask, CloseSession, Relay, Relayed, RequestAnswer, TopUp
from ..session.state import Hold, HoldPlaced, Session
from . import idempotency_keys
from .caveats import Action, Grant

# The charge and the hold before it.
_EVENTS = 2


class Former(msgspec.Struct, frozen=True):
    """What may be told to this credential."""

    grant: Grant
    reply: RequestAnswer | Relayed


def begun(session: Session, command: Ask | Relay) -> Hold | None:
    """The same request of the same credential, that an earlier version's front sent."""
    hold = session.holds.get(idempotency_keys.former_name(command.once))
    if hold is None or hold.once.digest != command.once.digest or not _is_buyer(hold, command.grant):
        return None
    return hold


def again(command: Ask | Relay | TopUp | CloseSession, reply: Reply, now_ms: int) -> Decision | None:
    """What is said to a narrowed credential; None when it has to be decided upon."""
    if isinstance(reply, RequestAnswer | Relayed):
        return Decision(history=History(0, _EVENTS, needle(reply.request_id), Former(command.grant, reply)))
    # An invoice or a view of the session, which is no secret to those who may do the same.
    action = Action.TOPUP if isinstance(command, TopUp) else Action.CLOSE
    return None if command.grant.refusal(action, now_ms) else Decision(reply=reply)


def told(events: Sequence[Event], asked: Former) -> Reply | Refusal:
    """The answer, if the journal's events of its request say that this credential bought it."""
    bought = any(isinstance(event, HoldPlaced) and _is_buyer(event.hold, asked.grant) for event in events)
    return asked.reply if bought else idempotency_conflict()


def _is_buyer(hold: Hold, grant: Grant) -> bool:
    counters = {limit.counter for limit in grant.spend_limits}
    # It has fewer of them than were counted then: those that can't bind are left out.
    same_counts = counters <= set(hold.counters) and bool(counters) == bool(hold.counters)
    return not hold.once.lineage and same_counts and hold.spender == grant.spender
