"""Queue of messages to a host, in turns between actors: one with many requests must not hold up the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..messages import Call, Cancel


class FairQueue:
    """Queue of messages in the order of each actor, with the actors in turn."""

    __slots__ = ("_by_actor", "_count")

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self._by_actor: dict[str, deque[Call | Cancel]] = {}
        self._count = 0
        for call in calls:
            self.put(call.actor_id, call)

    def __len__(self) -> int:
        return self._count

    def put(self, actor_id: str, message: Call | Cancel) -> None:
        """Put a message behind those of the same actor."""
        queue = self._by_actor.get(actor_id)
        if queue is None:
            self._by_actor[actor_id] = deque((message,))
        else:
            queue.append(message)
        self._count += 1

    def take(self, most: int) -> list[Call | Cancel]:
        """Return at most `most` messages: one of each actor, then a second one of each, and so on."""
        taken: list[Call | Cancel] = []
        while self._by_actor and len(taken) < most:
            actor_id = next(iter(self._by_actor))
            queue = self._by_actor.pop(actor_id)
            taken.append(queue.popleft())
            if queue:
                self._by_actor[actor_id] = queue
        self._count -= len(taken)
        return taken
