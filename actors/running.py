"""What one actor has under way outside: each intent once, until its outcome has been decided upon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .domain.behaviour import Command, Intent, Reply
from .outlet import Outlet

Run = Callable[[Intent, Outlet], Awaitable[Command]]
Deliver = Callable[[Command], None]
Say = Callable[[str, Reply], None]


@dataclass(slots=True, eq=False)
class _Errand:
    intent: Intent
    outlet: Outlet
    said: list[Reply] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    cut: asyncio.TimerHandle | None = None

    def cut_off(self) -> None:
        """Cancels it, unless it is about to say what it has used."""
        if not self.outlet.ending:
            self.end()

    def end(self) -> None:
        """Cancels it, unless it has come to its outcome."""
        if self.task is not None and not self.task.done():
            self.task.cancel()


class Running:
    """The errands of an actor.

    One whose outcome is in the mailbox still counts as running: its intent must not start again before the actor knows.
    """

    __slots__ = ("_deliver", "_errands", "_run", "_say")

    def __init__(self, run: Run, deliver: Deliver, say: Say) -> None:
        self._run = run
        self._deliver = deliver
        self._say = say
        self._errands: dict[str, _Errand] = {}

    def __bool__(self) -> bool:
        return bool(self._errands)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """Those that have not come to their outcome."""
        tasks = [errand.task for errand in self._errands.values()]
        return [task for task in tasks if task is not None and not task.done()]

    @property
    def precious_tasks(self) -> list[asyncio.Task[None]]:
        """Those of them whose beginning would be lost on another host."""
        errands = [errand for errand in self._errands.values() if not errand.intent.free_to_repeat]
        return [errand.task for errand in errands if errand.task is not None and not errand.task.done()]

    @property
    def precious(self) -> bool:
        """Whether there is one whose beginning would be lost on another host."""
        return any(not errand.intent.free_to_repeat for errand in self._errands.values())

    def start(self, intent: Intent) -> None:
        """Begins an intent, unless it runs."""
        if intent.key in self._errands:
            return

        def emit(reply: Reply) -> None:
            errand.said.append(reply)
            self._say(intent.key, reply)

        errand = self._errands[intent.key] = _Errand(intent, Outlet(emit))
        errand.task = asyncio.create_task(self._carry_out(errand))

    async def _carry_out(self, errand: _Errand) -> None:
        outcome = await self._run(errand.intent, errand.outlet)
        self._deliver(outcome)

    def decided(self, key: str) -> None:
        """The actor has taken the outcome in."""
        errand = self._errands.pop(key, None)
        if errand is not None and errand.cut is not None:
            errand.cut.cancel()

    def said(self, key: str) -> list[Reply]:
        """What it has said so far, for those who join late."""
        errand = self._errands.get(key)
        return [] if errand is None else errand.said

    def unheard(self, key: str) -> None:
        """Nobody waits for it any more: it ends, if it is one that does then."""
        errand = self._errands.get(key)
        if errand is None or not errand.intent.ends_unheard or errand.outlet.stopped:
            return
        errand.outlet.stopped = True
        # One that has not had its first turn would be cancelled without an outcome; it looks at `stopped` itself.
        if not errand.outlet.begun:
            return
        lingers_s = errand.outlet.lingers_s()
        if lingers_s > 0:
            errand.cut = asyncio.get_running_loop().call_later(lingers_s, errand.cut_off)
        else:
            errand.end()

    def cancel(self) -> None:
        """Ends all, without outcomes."""
        for errand in self._errands.values():
            if errand.cut is not None:
                errand.cut.cancel()
            errand.end()
