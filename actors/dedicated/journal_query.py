"""Queries that an actor's journal alone can answer, so that no process has to run the actor."""

from __future__ import annotations

from typing import Any

from ..domain.behaviour import Behaviour, Command, Decision, TakeUp
from ..host.rehydrate import rehydrate
from ..host.replies import AnyReply
from ..ports import Stored


def answer_from_journal(
    behaviour: Behaviour[Any], actor_id: str, stored: Stored, command: Command, now_ms: int
) -> AnyReply | None:
    """Return the actor's answer to a command that leaves it as it is; None when the actor has to run.

    It has to run for a command that is done once, whose answer may be kept, and whenever it has something to do by
    itself. Raises as `rehydrate` does.
    """
    if command.once is not None:
        return None
    state = rehydrate(behaviour, actor_id, stored)
    if (
        state is None
        or behaviour.intents(actor_id, state)
        or _acts(behaviour.decide(actor_id, state, TakeUp(), now_ms))
    ):
        return None
    decision = behaviour.decide(actor_id, state, command, now_ms)
    waits = decision.wait_for is not None or decision.watch or decision.history is not None
    return None if waits or _acts(decision) else decision.reply


def _acts(decision: Decision) -> bool:
    return bool(decision.events or decision.intents or decision.answers or decision.marks)
