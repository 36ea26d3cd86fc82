"""Model provider of a run. It reports each request to the books, before it does anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from ...actors.domain.llm.answers import Completion, Evaluation, StreamPart, TextDelta, UsageSoFar, Verdict
from ...actors.domain.llm.relays import Give, RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from ...actors.domain.pricing import Size, Usage
from ...actors.domain.provider_faults import ModelFault
from ...actors.model_health.health_check import ModelWatch
from ...actors.ports import Model, ModelError, PermanentError, TransientError
from .books.charges import piece
from .books.prices import Tokens
from .books.waiting import Work
from .world import Fault, World

_JUDGED: Final = 100, 20
_READ: Final = 150
_WRITTEN_MAX: Final = 60
_AWAY: Final = (ModelFault.UNREACHABLE, ModelFault.UNAVAILABLE, ModelFault.OVERLOADED, ModelFault.REFUSED)


class Watcher(Protocol):
    """Books of what the model does."""

    def asked(self, label: str, work: bool) -> int:
        """Note that the model is about to work for this label, or to evaluate; return the number of the call."""
        ...

    def used(self, label: str, work: bool, tokens: Tokens | None) -> None:
        """Note the tokens of a call that has ended; None: its figures were unreadable."""
        ...

    def cut_off(self, label: str) -> None:
        """Note that a call was cancelled midway; its prompt is billed."""
        ...

    def came_to_nothing(self, label: str, away: bool) -> None:
        """Note a call that did not reach the model (`away`), or that the model refused for good."""
        ...


def labelled(label: str, text: str) -> str:
    """Return a request's text with the label of what it belongs to."""
    return f"[{label}] {text}"


def label_of(request: str) -> str:
    """Return the label in a request's text."""
    return request[1 : request.index("]")]


class _Asked(msgspec.Struct):
    max_tokens: int


@dataclass(eq=False)
class SimulatedModel:
    """`Model` whose answers depend on the request alone; how they come depends on chance."""

    world: World
    watcher: Watcher
    work: Work

    def for_host(self, now_ms: Callable[[], int]) -> tuple[Model, None]:
        """Return the model itself, and nothing that keeps sales back."""
        return self, None

    def watches(self) -> Sequence[ModelWatch]:
        """Return no watch: there is no breaker."""
        return ()

    def prepare(self) -> object:
        """Do nothing: the model is always ready."""
        return None

    async def evaluate(self, request: str) -> Evaluation:
        """Judge a request; one that says so is rejected. Raises `TransientError`, `PermanentError`."""
        label = label_of(request)
        with self._exchange(label, work=False):
            await self._work(label)
        verdict = Verdict("reject me" not in request, "because", Size.SMALL)
        return Evaluation(verdict, "haiku", self._used(label, False, _JUDGED))

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work. Raises `TransientError`, `PermanentError`."""
        label = label_of(request)
        with self._exchange(label, work=True):
            await self._work(label)
        return Completion(f"the answer to {request}", model, self._written(label, max_tokens), "end_turn")

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece. Raises `TransientError` at any point."""
        label = label_of(request)
        with self._exchange(label, work=True):
            await self._work(label)
            yield UsageSoFar(Usage(_READ, 1))
            pieces = [f"piece {n} of {request} " for n in range(self.world.chance.randint(1, self.world.pieces_max))]
            for text in pieces:
                yield TextDelta(text)
                await self._piece(label)
        yield Completion("".join(pieces), model, self._written(label, max_tokens), "end_turn")

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Pass a call on; its text holds its label. Raises `TransientError`, `PermanentError`."""
        label = label_of(body[body.index(b"[") :].decode())
        with self._exchange(label, work=True) as call:
            await self._work(label)
            if stream:
                yield RelayBegun({})
            for number in range(self.world.chance.randint(1, self.world.pieces_max) if stream else 0):
                yield RelayBytes(piece(call, number))
                yield RelaySoFar(Usage(_READ, 1), unseen_tokens=10 * number)
                await self._piece(label)
        # No provider writes more than it was asked for: a hold that did not cover it would be a defect.
        usage = self._written(label, msgspec.json.decode(body, type=_Asked).max_tokens)
        yield RelayEnd(200, {}, b"" if stream else b"the answer to " + body, usage, 20)

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool) -> RelayEnd:
        """Count a prompt's tokens. Raises `TransientError`."""
        if self.world.strikes(Fault.MODEL_FAILS, 0.2):
            raise TransientError("the count failed")
        return RelayEnd(200, {}, b'{"input_tokens":%d}' % _READ, None)

    async def prompt_tokens(self, request: str, *, model: str | None = None, max_tokens: int = 0) -> int:
        """Count a prompt's tokens. Raises `TransientError`."""
        await self.world.pause(self.world.chance.uniform(0.01, 0.5))
        if self.world.strikes(Fault.MODEL_FAILS, 0.3):
            raise TransientError("the count failed")
        return _JUDGED[0] if model is None else _READ

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""

    @contextmanager
    def _exchange(self, label: str, *, work: bool) -> Iterator[int]:
        call = self.watcher.asked(label, work)
        self._reach(label)
        try:
            yield call
        except PermanentError:
            self.watcher.came_to_nothing(label, away=False)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.watcher.cut_off(label)
            raise

    def _reach(self, label: str) -> None:
        """Raise `ModelError` while the model is away, for shorter or longer than an invoice lives."""
        world = self.world
        if world.strikes(Fault.MODEL_AWAY, 0.04):
            world.model_back_s = world.loop.time() + world.chance.uniform(2, 90)
        if not world.calm and world.loop.time() < world.model_back_s:
            self.watcher.came_to_nothing(label, away=True)
            raise ModelError("no connection", world.chance.choice(_AWAY))

    async def _piece(self, label: str) -> None:
        delay_s = self.world.chance.uniform(0.01, 0.3)
        if self.world.strikes(Fault.MODEL_SLOW, 0.3):
            delay_s = self.world.chance.uniform(0.3, 3)
        with self.work.on(label):
            await self.world.pause(delay_s)
        if self.world.strikes(Fault.MODEL_FAILS, 0.05):
            raise TransientError("the model died in the middle")

    async def _work(self, label: str) -> None:
        world = self.world
        delay_s = world.chance.uniform(0.02, 0.5)
        if world.strikes(Fault.MODEL_SLOW, 0.1):
            delay_s = world.chance.uniform(2, 40)
        with self.work.on(label):
            await world.pause(delay_s)
        if world.strikes(Fault.MODEL_FAILS, 0.12):
            raise TransientError("overloaded", retry_after_s=world.chance.choice([None, 1.0]))
        if world.strikes(Fault.MODEL_FAILS, 0.03):
            raise PermanentError("refused")

    def _written(self, label: str, max_tokens: int) -> Usage | None:
        return self._used(label, True, (_READ, min(_WRITTEN_MAX, max_tokens)))

    def _used(self, label: str, work: bool, tokens: Tokens) -> Usage | None:
        """Report a call's figures to the watcher, and return them; sometimes they are unreadable."""
        told = None if self.world.strikes(Fault.MODEL_FAILS, 0.1) else tokens
        self.watcher.used(label, work, told)
        return None if told is None else Usage(*told)
