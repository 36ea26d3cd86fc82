"""Intents that one actor has under way outside: each once, until its outcome has been decided upon."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from ...config.log_context import present_traceparent
from ..domain.behaviour import Command, Done, Intent, Once, Reply
from ..domain.llm.answers import TextDelta
from ..domain.llm.relays import RelayBytes
from ..effects.progress import ProgressChannel
from ..metrics.effects import effect_name
from ..metrics.tracing import begin_step, end_span

Run = Callable[[Intent, ProgressChannel], Awaitable[Command]]
Deliver = Callable[[Command], None]
Say = Callable[[str, Reply], None]
Timed = Callable[[Command, float, float | None], None]
"""Takes note of an outcome, the seconds until it came, and those until the first piece of a streamed answer."""


@dataclass(slots=True, eq=False)
class _Effect:
    intent: Intent
    progress: ProgressChannel
    said: list[Reply] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    cut: asyncio.TimerHandle | None = None
    claims: int = 0
    said_first_s: float = math.inf
    first_piece_s: float | None = None

    def cut_after(self, delay_s: float, cut: Callable[[], None]) -> None:
        """Have the effect ended in `delay_s` seconds, instead of at the time that was set before."""
        if self.cut is not None:
            self.cut.cancel()
        self.cut = asyncio.get_running_loop().call_later(delay_s, cut)

    def say(self, reply: Reply) -> None:
        """Note a reply, for callers that join late."""
        if not self.said:
            self.said_first_s = asyncio.get_running_loop().time()
        self.said.append(reply)
        if self.first_piece_s is None and isinstance(reply, TextDelta | RelayBytes):
            self.first_piece_s = asyncio.get_running_loop().time()

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
        """Return the operation that the effect carries out."""
        return self.intent.once

    def repeated_by(self, digest: str) -> bool:
        """Return whether a repetition with this digest may wait for the effect."""
        attempt = self.intent.attempt
        return attempt is not None and attempt.digest == digest and not self.progress.stopped

    def cut_off(self) -> None:
        """Cancel the effect, unless it is about to say what it has used."""
        if not self.progress.ending:
            self.end()

    def end(self) -> None:
        """Cancel the effect, unless it has come to its outcome."""
        if self.task is not None and not self.task.done():
            self.task.cancel()


class InFlight:
    """Effects of an actor that are under way.

    An effect whose outcome is in the mailbox still counts as running: its intent must not start again before the actor
    knows.
    """

    __slots__ = ("_deliver", "_effects", "_run", "_say", "_timed")

    def __init__(self, run: Run, deliver: Deliver, say: Say, timed: Timed | None = None) -> None:
        self._run = run
        self._deliver = deliver
        self._say = say
        self._timed = timed
        self._effects: dict[str, _Effect] = {}

    def __bool__(self) -> bool:
        return bool(self._effects)

    @property
    def keys(self) -> Collection[str]:
        """Return the keys of the intents under way."""
        return self._effects.keys()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that have not come to their outcome."""
        tasks = [effect.task for effect in self._effects.values()]
        return [task for task in tasks if task is not None and not task.done()]

    @property
    def precious_tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks under way whose beginning would be lost on another host."""
        effects = [effect for effect in self._effects.values() if not effect.intent.free_to_repeat]
        return [effect.task for effect in effects if effect.task is not None and not effect.task.done()]

    @property
    def precious(self) -> bool:
        """Return whether there is an effect whose beginning would be lost on another host."""
        return any(not effect.intent.free_to_repeat for effect in self._effects.values())

    def start(self, intent: Intent) -> None:
        """Begin an intent, unless it runs."""
        if intent.key in self._effects:
            return

        def emit(reply: Reply) -> None:
            effect.say(reply)
            self._say(intent.key, reply)

        effect = self._effects[intent.key] = _Effect(intent, ProgressChannel(emit))
        effect.task = asyncio.create_task(self._carry_out(effect))

    async def _carry_out(self, effect: _Effect) -> None:
        clock = asyncio.get_running_loop().time
        begun_s = clock()
        outcome: Command | None = None
        span = begin_step(effect_name(effect.intent), present_traceparent())
        try:
            outcome = await self._run(effect.intent, effect.progress)
        finally:
            end_span(span, failed=not isinstance(outcome, Done))
        if self._timed is not None:
            first_s = effect.first_piece_s
            self._timed(outcome, clock() - begun_s, None if first_s is None else first_s - begun_s)
        self._deliver(outcome)

    def decided(self, key: str) -> None:
        """Remove an effect whose outcome the actor has taken in."""
        effect = self._effects.pop(key, None)
        if effect is not None and effect.cut is not None:
            effect.cut.cancel()

    def said(self, key: str) -> list[Reply]:
        """Return the effect's replies so far, for callers that join late."""
        effect = self._effects.get(key)
        return [] if effect is None else effect.said

    def unheard(self, key: str) -> None:
        """End an effect that no caller waits for, if it is of a kind that ends then; some live on for a while."""
        effect = self._effects.get(key)
        if effect is None or not effect.intent.ends_unheard or effect.progress.stopped:
            return
        if effect.intent.lives_on_ms and effect.comes_again:
            effect.cut_after(effect.intent.lives_on_ms / 1_000, partial(self._stop, effect))
        else:
            self._stop(effect)

    def heard(self, key: str) -> None:
        """Keep an effect running, as a caller waits for it again."""
        effect = self._effects.get(key)
        if effect is not None and effect.cut is not None and not effect.progress.stopped:
            effect.cut.cancel()
            effect.cut = None

    def claim(self, digest: str, own: Once, waited: Collection[str]) -> Once | None:
        """Return the operation under way that a repetition with this digest repeats.

        `waited`: keys that are waited for. The operation may be the repetition's `own`, which a router sent again.
        Several clients may have sent the same at once: each repetition gets one of theirs, first those whose callers
        have left.
        """
        found = [effect for effect in self._effects.values() if effect.repeated_by(digest)]
        if not found:
            return None
        effect = min(found, key=lambda effect: (effect.once != own, effect.intent.key in waited, effect.claims))
        effect.claims += 1
        if effect.cut is not None:
            # The effect must not end before the repetition waits for it.
            effect.cut_after(effect.intent.lives_on_ms / 1_000, partial(self._stop, effect))
        return effect.once

    def _stop(self, effect: _Effect) -> None:
        effect.progress.stopped = True
        # A task that has not begun would be cancelled without an outcome. It looks at `stopped` itself.
        if not effect.progress.begun:
            return
        lingers_s = effect.progress.lingers_s()
        if lingers_s > 0:
            effect.cut_after(lingers_s, effect.cut_off)
        else:
            effect.end()

    def cancel(self) -> None:
        """End all effects, without outcomes."""
        for effect in self._effects.values():
            if effect.cut is not None:
                effect.cut.cancel()
            effect.end()
