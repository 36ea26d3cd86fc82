"""Answers that an earlier version kept: under one key for all credentials of a session, whichever bought them.

The credential whose counts and name are the buyer's in the journal gets the answer again. All others get a conflict,
so that nothing is charged again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .. import idempotency_keys
from ..behaviour import Decision, Event, History, Reply
from ..credentials.caveats import Action, Grant
from ..errors import Refusal, idempotency_conflict
from ..receipts import needle
from .messages import Ask, CloseSession, PlanPayout, Relay, Relayed, RequestAnswer, TopUp
from .state import Hold, HoldPlaced, Session

# The charge and the hold before it.
_EVENTS = 2


class Former(msgspec.Struct, frozen=True):
    """A kept answer, and the grant of the credential that asks for it; `told` checks whether it is the buyer's."""

    grant: Grant
    reply: RequestAnswer | Relayed


def begun(session: Session, command: Ask | Relay) -> Hold | None:
    """Return the hold of the same request under way, if an earlier version's front sent it by this credential."""
    hold = session.holds.get(idempotency_keys.former_name(command.once))
    if hold is None or hold.once.digest != command.once.digest or not _is_buyer(hold, command.grant):
        return None
    return hold


def again(command: Ask | Relay | TopUp | CloseSession | PlanPayout, reply: Reply, now_ms: int) -> Decision | None:
    """Decide on a repeated command; None leaves it to `decide`, because its caveats forbid the action."""
    if isinstance(reply, RequestAnswer | Relayed):
        return Decision(history=History(0, _EVENTS, needle(reply.request_id), Former(command.grant, reply)))
    # An invoice or a view of the session: holders that may do the same may see it.
    action = Action.TOPUP if isinstance(command, TopUp) else Action.CLOSE
    return None if command.grant.refusal(action, now_ms) else Decision(reply=reply)


def told(events: Sequence[Event], asked: Former) -> Reply | Refusal:
    """Return the answer if, by the journal's events of its request, this credential bought it; else a conflict."""
    bought = any(isinstance(event, HoldPlaced) and _is_buyer(event.hold, asked.grant) for event in events)
    return asked.reply if bought else idempotency_conflict()


def _is_buyer(hold: Hold, grant: Grant) -> bool:
    counters = {limit.counter for limit in grant.spend_limits}
    # The grant leaves out limits that can't bind, which were counted then: so it may have fewer.
    same_counts = counters <= set(hold.counters) and bool(counters) == bool(hold.counters)
    return not hold.once.lineage and same_counts and hold.spender == grant.spender
