"""Rehydration of an actor: its state from its stored snapshot and events."""

from __future__ import annotations

from typing import Any

from ..domain.behaviour import Behaviour
from ..ports import Stored


def rehydrate(behaviour: Behaviour[Any], actor_id: str, stored: Stored) -> Any:
    """Return the state of an actor; None for one that does not exist.

    Raises `UnknownEventError`, and `BooksError` or `MoneyError` for events that can't follow on each other.
    """
    state = None if stored.snapshot is None else behaviour.decode_state(stored.snapshot)
    for data in stored.events:
        state = behaviour.evolve(actor_id, state, behaviour.decode_event(data))
    return state
