"""Recall of answers that may have been given before: under a client's key, by a dead host, or for a library."""

from __future__ import annotations

from collections.abc import Sequence

from ..domain import idempotency_keys
from ..domain.behaviour import Once
from .kept_answers import Recall, known, recall
from .turn import Envelope


async def recall_kept(
    look: Recall, repetitions: Sequence[tuple[Envelope, str | None]], envelopes: Sequence[Envelope]
) -> None:
    """Put the kept answers beside their commands. Raises `TransientError`.

    `repetitions`: those whose originals are not under way, each with its original's name where that has just ended.
    Nothing is written to the actor between this and the decision that builds upon it.
    """
    for envelope, name in repetitions:
        await _find_original(look, envelope, name)
    asked = [once for envelope in envelopes if (once := envelope.done_once) is not None]
    if asked:
        kept = await recall(asked, look)
        for envelope in envelopes:
            envelope.kept = kept


async def _find_original(look: Recall, envelope: Envelope, name: str | None) -> None:
    """Make a repetition of a call that has ended the same operation, if its answer is kept."""
    attempt, own = envelope.repeats, envelope.done_once
    assert attempt is not None
    if own is not None and await look([own.name]):
        return  # Another host has carried out the repetition itself.
    if name is None:
        pointer = idempotency_keys.repetition_name(attempt)
        found = known(None, await look([pointer]), pointer)
        name = found.reply.name if found and isinstance(found.reply, idempotency_keys.KeptUnder) else None
    if name is not None and await look([name]):
        envelope.stand_for(Once(name, "", keyed=False))
