"""The model provider of a run. It tells whoever keeps books for whom it was asked, before it does anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from ...actors.domain.answers import Completion, Evaluation, StreamPart, TextDelta, UsageSoFar, Verdict
from ...actors.domain.pricing import Size, Usage
from ...actors.domain.relays import RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from ...actors.ports import PermanentError, TransientError
from .world import Fault, World

Asked = Callable[[str, bool], None]
"""Is told for what the model was asked, and whether for the work, else for the evaluation."""
CutOff = Callable[[str], None]
"""Is told of what was hung up in the middle: its prompt is billed."""
_PIECES_MAX: Final = 6


def labelled(label: str, text: str) -> str:
    """A request's text that says what it belongs to."""
    return f"[{label}] {text}"


def _label(request: str) -> str:
    return request[1 : request.index("]")]


class _Asked(msgspec.Struct):
    max_tokens: int


class SimulatedModel:
    """Implements `Model`. What it says depends on the request alone, how it says that on chance."""

    def __init__(self, world: World, asked: Asked, cut_off: CutOff) -> None:
        self._world = world
        self._asked = asked
        self._cut_off = cut_off

    def prepare(self) -> object:
        """It is ready."""
        return None

    async def evaluate(self, request: str) -> Evaluation:
        """Judges a request; one that says so is rejected. Raises `TransientError`, `PermanentError`."""
        with self._exchange(_label(request), work=False):
            await self._work()
        verdict = Verdict("reject me" not in request, "because", Size.SMALL)
        return Evaluation(verdict, "haiku", self._usage(Usage(100, 20)))

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Does the work. Raises `TransientError`, `PermanentError`."""
        with self._exchange(_label(request), work=True):
            await self._work()
        return Completion(f"the answer to {request}", model, self._usage(Usage(150, min(60, max_tokens))), "end_turn")

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Does the work piece by piece. Raises `TransientError` at any point."""
        with self._exchange(_label(request), work=True):
            await self._work()
            yield UsageSoFar(Usage(150, 1))
            pieces = [f"piece {n} of {request} " for n in range(self._world.chance.randint(1, _PIECES_MAX))]
            for piece in pieces:
                yield TextDelta(piece)
                await self._world.pause(self._world.chance.uniform(0.01, 0.3))
                if self._world.strikes(Fault.MODEL_FAILS, 0.05):
                    raise TransientError("the model died in the middle")
        yield Completion("".join(pieces), model, self._usage(Usage(150, min(60, max_tokens))), "end_turn")

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool
    ) -> AsyncGenerator[RelayPart, None]:
        """Passes a call on; its text says what it belongs to. Raises `TransientError`, `PermanentError`."""
        label = _label(body[body.index(b"[") :].decode())
        with self._exchange(label, work=True):
            await self._work()
            if stream:
                yield RelayBegun({})
            for number in range(self._world.chance.randint(1, _PIECES_MAX) if stream else 0):
                yield RelayBytes(b"piece %d of %b " % (number, body))
                yield RelaySoFar(Usage(150, 1), unseen_tokens=10 * number)
                await self._world.pause(self._world.chance.uniform(0.01, 0.3))
                if self._world.strikes(Fault.MODEL_FAILS, 0.05):
                    raise TransientError("the model died in the middle")
        # No provider writes more than it was asked for: a hold that did not cover it would be a defect.
        most = msgspec.json.decode(body, type=_Asked).max_tokens
        usage = self._usage(Usage(150, min(60, most)))
        yield RelayEnd(200, {}, b"" if stream else b"the answer to " + body, usage, 20)

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Counts a prompt. Raises `TransientError`."""
        if self._world.strikes(Fault.MODEL_FAILS, 0.2):
            raise TransientError("the count failed")
        return RelayEnd(200, {}, b'{"input_tokens":150}', None)

    async def prompt_tokens(self, request: str, *, model: str | None = None, max_tokens: int = 0) -> int:
        """Counts a prompt. Raises `TransientError`."""
        await self._world.pause(self._world.chance.uniform(0.01, 0.5))
        if self._world.strikes(Fault.MODEL_FAILS, 0.3):
            raise TransientError("the count failed")
        return 100 if model is None else 150

    async def close(self) -> None:
        """There is no connection."""

    @contextmanager
    def _exchange(self, label: str, *, work: bool) -> Iterator[None]:
        self._asked(label, work)
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self._cut_off(label)
            raise

    async def _work(self) -> None:
        world = self._world
        delay_s = world.chance.uniform(0.02, 0.5)
        if world.strikes(Fault.MODEL_SLOW, 0.1):
            delay_s = world.chance.uniform(2, 40)
        await world.pause(delay_s)
        if world.strikes(Fault.MODEL_FAILS, 0.12):
            raise TransientError("overloaded", retry_after_s=world.chance.choice([None, 1.0]))
        if world.strikes(Fault.MODEL_FAILS, 0.03):
            raise PermanentError("refused")

    def _usage(self, usage: Usage) -> Usage | None:
        """The figures; sometimes they are unreadable."""
        return None if self._world.strikes(Fault.MODEL_FAILS, 0.1) else usage
