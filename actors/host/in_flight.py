"""Intents that one actor has under way outside: each once, until its outcome has been decided upon."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from ..domain.behaviour import Command, Intent, Once, Reply
from ..effects.progress import Outlet

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
    claims: int = 0
    said_first_s: float = math.inf

    def cut_after(self, delay_s: float, cut: Callable[[], None]) -> None:
        """Have the errand ended in `delay_s` seconds, instead of at the time that was set before."""
        if self.cut is not None:
            self.cut.cancel()
        self.cut = asyncio.get_running_loop().call_later(delay_s, cut)

    def say(self, reply: Reply) -> None:
        """Note a reply, for callers that join late."""
        if not self.said:
            self.said_first_s = asyncio.get_running_loop().time()
        self.said.append(reply)

    @property
    def comes_again(self) -> bool:
        """Return whether a client's library that has left now may still send the call again.

        Of a stream it has the head, and sends nothing again, once the model has said something, or the front's time
        for the head is over. A stream that it has left by then must end at once.
        """
        attempt = self.intent.attempt
        if attempt is None or attempt.headed_after_ms is None:
            return True
        quiet_s = asyncio.get_running_loop().time() - self.said_first_s
        return len(self.said) <= 1 and quiet_s * 1_000 < attempt.headed_after_ms

    @property
    def once(self) -> Once | None:
        """Return the operation that the errand carries out."""
        return self.intent.once

    def repeated_by(self, digest: str) -> bool:
        """Return whether a repetition with this digest may wait for the errand."""
        attempt = self.intent.attempt
        return attempt is not None and attempt.digest == digest and not self.outlet.stopped

    def cut_off(self) -> None:
        """Cancel the errand, unless it is about to say what it has used."""
        if not self.outlet.ending:
            self.end()

    def end(self) -> None:
        """Cancel the errand, unless it has come to its outcome."""
        if self.task is not None and not self.task.done():
            self.task.cancel()


class Running:
    """Errands of an actor.

    An errand whose outcome is in the mailbox still counts as running: its intent must not start again before the actor
    knows.
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
        """Return the tasks that have not come to their outcome."""
        tasks = [errand.task for errand in self._errands.values()]
        return [task for task in tasks if task is not None and not task.done()]

    @property
    def precious_tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks under way whose beginning would be lost on another host."""
        errands = [errand for errand in self._errands.values() if not errand.intent.free_to_repeat]
        return [errand.task for errand in errands if errand.task is not None and not errand.task.done()]

    @property
    def precious(self) -> bool:
        """Return whether there is an errand whose beginning would be lost on another host."""
        return any(not errand.intent.free_to_repeat for errand in self._errands.values())

    def start(self, intent: Intent) -> None:
        """Begin an intent, unless it runs."""
        if intent.key in self._errands:
            return

        def emit(reply: Reply) -> None:
            errand.say(reply)
            self._say(intent.key, reply)

        errand = self._errands[intent.key] = _Errand(intent, Outlet(emit))
        errand.task = asyncio.create_task(self._carry_out(errand))

    async def _carry_out(self, errand: _Errand) -> None:
        outcome = await self._run(errand.intent, errand.outlet)
        self._deliver(outcome)

    def decided(self, key: str) -> None:
        """Remove an errand whose outcome the actor has taken in."""
        errand = self._errands.pop(key, None)
        if errand is not None and errand.cut is not None:
            errand.cut.cancel()

    def said(self, key: str) -> list[Reply]:
        """Return the errand's replies so far, for callers that join late."""
        errand = self._errands.get(key)
        return [] if errand is None else errand.said

    def unheard(self, key: str) -> None:
        """End an errand that no caller waits for, if it is of a kind that ends then; some live on for a while."""
        errand = self._errands.get(key)
        if errand is None or not errand.intent.ends_unheard or errand.outlet.stopped:
            return
        if errand.intent.lives_on_ms and errand.comes_again:
            errand.cut_after(errand.intent.lives_on_ms / 1_000, partial(self._stop, errand))
        else:
            self._stop(errand)

    def heard(self, key: str) -> None:
        """Keep an errand running, as a caller waits for it again."""
        errand = self._errands.get(key)
        if errand is not None and errand.cut is not None and not errand.outlet.stopped:
            errand.cut.cancel()
            errand.cut = None

    def claim(self, digest: str, own: Once, waited: Collection[str]) -> Once | None:
        """Return the operation under way that a repetition with this digest repeats.

        `waited`: keys that are waited for. The operation may be the repetition's `own`, which a router sent again.
        Several clients may have sent the same at once: each repetition gets one of theirs, first those whose callers
        have left.
        """
        found = [errand for errand in self._errands.values() if errand.repeated_by(digest)]
        if not found:
            return None
        errand = min(found, key=lambda errand: (errand.once != own, errand.intent.key in waited, errand.claims))
        errand.claims += 1
        if errand.cut is not None:
            # The errand must not end before the repetition waits for it.
            errand.cut_after(errand.intent.lives_on_ms / 1_000, partial(self._stop, errand))
        return errand.once

    def _stop(self, errand: _Errand) -> None:
        errand.outlet.stopped = True
        # A task that has not begun would be cancelled without an outcome. It looks at `stopped` itself.
        if not errand.outlet.begun:
            return
        lingers_s = errand.outlet.lingers_s()
        if lingers_s > 0:
            errand.cut_after(lingers_s, errand.cut_off)
        else:
            errand.end()

    def cancel(self) -> None:
        """End all errands, without outcomes."""
        for errand in self._errands.values():
            if errand.cut is not None:
                errand.cut.cancel()
            errand.end()
