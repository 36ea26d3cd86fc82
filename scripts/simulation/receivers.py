"""Receivers of a run's webhooks: slow, away, late with their answers, or tired of notices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from ...actors.domain.webhooks import Notify
from ...actors.ports import TransientError
from .world import Fault, World

_ATTEMPT_S: Final = 10.0
_LATE_MAX_S: Final = 30.0


class Listener(Protocol):
    """Books of what receivers get."""

    def notified(self, url: str, webhook_id: str, body: bytes, *, taken: bool) -> None:
        """Note what a receiver was sent.

        `taken`: the receiver has it, whether or not the sender knows that.
        """
        ...

    def wants_no_more(self, url: str) -> None:
        """Note that a receiver has asked for no further notices."""
        ...


@dataclass(eq=False)
class Receivers:
    """`Webhooks` with all receivers there are, each at an address of its own."""

    world: World
    listener: Listener
    away: bool = False
    tired: set[str] = field(default_factory=set)

    async def send(self, notify: Notify) -> bool:
        """Make one attempt (see `Webhooks`). Raises `TransientError`."""
        world, chance = self.world, self.world.chance
        await world.pause(chance.uniform(0.005, 0.2))
        if self.away or world.strikes(Fault.RECEIVER_FAILS, 0.3):
            self._tell(notify, taken=False)
            await world.pause(chance.choice([0.01, _ATTEMPT_S]))
            raise TransientError("a webhook's receiver failed")
        if world.strikes(Fault.RECEIVER_LATE, 0.15):
            world.later(chance.uniform(0, _LATE_MAX_S), lambda: self._tell(notify, taken=True))
            await world.pause(_ATTEMPT_S)
            raise TransientError("a webhook's receiver took too long")
        if world.strikes(Fault.RECEIVER_LATE, 0.1):
            await world.pause(chance.uniform(0.5, _ATTEMPT_S - 0.5))
        if notify.url in self.tired or world.strikes(Fault.RECEIVER_TIRED, 0.05):
            self.tired.add(notify.url)
            self.listener.wants_no_more(notify.url)
            return False
        self._tell(notify, taken=True)
        await world.pause(chance.uniform(0.005, 0.2))
        return True

    def _tell(self, notify: Notify, *, taken: bool) -> None:
        self.world.tell(f"  {notify.url} is told {notify.webhook_id[-6:]}{'' if taken else ', and fails'}")
        self.listener.notified(notify.url, notify.webhook_id, notify.body, taken=taken)

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""
