"""Upstreams of a run: servers that are away, refuse, take a call and say nothing, or break off; each bills by itself.

The routing between them, the breakers before them and the watch over them are the program's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NoReturn, Protocol

import msgspec

from ...actors.domain.llm.answers import Completion, Evaluation, StreamPart, TextDelta, UsageSoFar, Verdict
from ...actors.domain.llm.catalogue import Api, Catalogue, ModelEntry, Upstream
from ...actors.domain.llm.relays import Give, RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from ...actors.domain.llm.reported_usage import ReportedUsage
from ...actors.domain.pricing import ModelPrice, Size, Usage
from ...actors.domain.provider_faults import ModelFault
from ...actors.effects.upstreams import Upstreams
from ...actors.model_health.circuit_breaker import GatedProvider, ModelGate, admit_sale_by_one
from ...actors.model_health.health_check import ModelWatch
from ...actors.ports import (
    MissingModelError,
    Model,
    ModelError,
    NotCountedError,
    PermanentError,
    PortError,
    SilentError,
    ToldError,
    TransientError,
)
from .books.charges import piece
from .books.upstreams import UpstreamCall
from .books.waiting import Work
from .loop import present
from .model import label_of
from .settings import EVAL_MODEL, WORK_MODEL
from .store.model_board import BoardData, SimulatedModelBoard
from .store.server import StoreAccess
from .world import Fault, World

_NAMES: Final = ("first", "second", "third")
_JUDGED: Final = 100, 20
# Below the bytes of any prompt here, with the text around it: holds bound prompts by bytes.
_READ: Final = 60
_WRITTEN_MAX: Final = (60, 45, 50)
_STATUSES: Final[Sequence[Callable[[], PortError]]] = (
    lambda: ModelError("answered 500", ModelFault.FAILING, answered=True),
    lambda: ModelError("answered 503", ModelFault.UNAVAILABLE, 1.0, answered=True),
    lambda: ModelError("answered 529", ModelFault.OVERLOADED, answered=True),
    lambda: ModelError("answered 429", ModelFault.LIMITED, 2.0, answered=True),
    lambda: ModelError("answered 401", ModelFault.REFUSED, answered=True),
    lambda: MissingModelError("answered 404"),
)
_UNANSWERED: Final[Sequence[Callable[[], PortError]]] = (
    lambda: ModelError("the connection broke", ModelFault.FAILING),
    lambda: ModelError("answered 504", ModelFault.FAILING),
    lambda: SilentError("it fell silent"),
)


class Watcher(Protocol):
    """Books of what the upstreams do."""

    def upstream_asked(self, effect: object, label: str, work: bool, *, left: bool) -> None:
        """Note that an upstream is asked, whether it takes the call or not; see `UpstreamBook.asked`."""
        ...

    def upstream_takes(self, effect: object, upstream: str, label: str, work: bool) -> UpstreamCall:
        """Note a call that an upstream takes, and may bill."""
        ...

    def upstream_unanswered(self, call: UpstreamCall, *, at_once: bool) -> None:
        """Note a call that was taken and not answered; see `AttemptBook.evaluated_in_vain`."""
        ...

    def cut_off(self, label: str) -> None:
        """Note that a call was cancelled midway; its prompt is billed."""
        ...

    def came_to_nothing(self, label: str, away: bool) -> None:
        """Note a call that no upstream took up (`away`), or that one refused for good."""
        ...


class _Asked(msgspec.Struct):
    max_tokens: int


@dataclass(eq=False)
class UpstreamServer:
    """One upstream, outside of all processes.

    `counts_first`: a stream begins with the usage of its prompt. Other upstreams count at the end, and no prompts.
    """

    world: World
    name: str
    written_max: int
    counts_first: bool
    board: BoardData = field(default_factory=BoardData)
    _back_s: float = 0.0
    _breaks_until_s: float = 0.0

    @property
    def away(self) -> bool:
        """Absence: nothing reaches the upstream."""
        return not self.world.calm and self.world.loop.time() < self._back_s

    def meet(self) -> PortError | None:
        """Return the error of a call that the upstream does not take, for shorter or longer than an invoice lives."""
        world = self.world
        if world.strikes(Fault.UPSTREAM_AWAY, 0.06):
            self._back_s = world.loop.time() + world.chance.uniform(2, 90)
        if self.away:
            return ModelError("no connection", ModelFault.UNREACHABLE)
        return world.chance.choice(_STATUSES)() if world.strikes(Fault.UPSTREAM_REFUSES, 0.12) else None

    def breaks(self, probability: float) -> bool:
        """Return whether a call breaks off now; sometimes many do so one after another."""
        world = self.world
        if world.strikes(Fault.UPSTREAM_BREAKS, 0.02):
            self._breaks_until_s = world.loop.time() + world.chance.uniform(2, 60)
        more = 0.5 if world.loop.time() < self._breaks_until_s else 0.0
        return world.strikes(Fault.UPSTREAM_BREAKS, probability + more)

    # The probe of the watch

    async def ask(self) -> bool:
        """See `ModelProbe`. Raises `ModelError`."""
        await self.world.pause(self.world.chance.uniform(0.01, 0.1))
        if self.away:
            raise ModelError("no connection", ModelFault.UNREACHABLE)
        return True

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""


@dataclass(eq=False)
class SimulatedProvider:
    """`Provider` that reaches one upstream. Answers depend on the request alone, how they come on chance."""

    server: UpstreamServer
    watcher: Watcher
    work: Work

    def prepare(self) -> object:
        """Do nothing: the upstream is always ready."""
        return None

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """Judge a request; one that says so is rejected. Raises `PortError`."""
        call = await self._take(label_of(request), work=False)
        with self._exchange(call):
            await self._begin(call)
        usage = self._bill(call, _JUDGED)
        if self.server.world.strikes(Fault.MODEL_FAILS, 0.05):
            raise TransientError("the verdict is unreadable")
        verdict = Verdict("reject me" not in request, "because", Size.SMALL)
        return Evaluation(verdict, model, usage, ReportedUsage(call.call_id))

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work. Raises `PortError`."""
        call = await self._take(label_of(request), work=True)
        with self._exchange(call):
            await self._begin(call)
        text = f"the answer to {request}"
        return self._completion(call, text, model, self._written(call, max_tokens, len(text)))

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece. Raises `PortError` at any point."""
        call, given = await self._take(label_of(request), work=True), ""
        reported = ReportedUsage(call.call_id)
        with self._exchange(call):
            await self._begin(call)
            yield reported
            if self.server.counts_first:
                call.prompt_told = True
                yield UsageSoFar(Usage(_READ, 1), reported=reported)
            for number in range(self.server.world.chance.randint(1, self.server.world.pieces_max)):
                text = f"piece {number} of {request} "
                given += text
                yield TextDelta(text)
                await self._piece(call)
        yield self._completion(call, given, model, self._written(call, max_tokens, len(given)))

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Pass a call on; its text holds its label. Raises `PortError` at any point."""
        if self.server.world.chance.happens(0.5):
            give = None
        call = await self._take(label_of(body[body.index(b"[") :].decode()), work=True)
        reported, given = ReportedUsage(call.call_id), 0 if stream else len(body)
        with self._exchange(call):
            await self._begin(call)
            if stream:
                yield RelayBegun({})
            for number in range(self.server.world.chance.randint(1, self.server.world.pieces_max) if stream else 0):
                data = piece(call.number, number)
                given += len(data)
                seen = self._so_far(call, data, number, reported)
                if give is not None:
                    give(RelayBytes(data), seen)
                else:
                    yield RelayBytes(data)
                    yield seen
                await self._piece(call, told=ToldError)
        usage = self._written(call, msgspec.json.decode(body, type=_Asked).max_tokens, given)
        answer = b"" if stream else b"the answer to " + body
        yield RelayEnd(200, {}, answer, usage, 20, reported=reported, given_bytes=given)

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Count a prompt's tokens. Raises `TransientError`, `NotCountedError`."""
        await self._count()
        return RelayEnd(200, {}, b'{"input_tokens":%d}' % _READ, None)

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """Count a prompt's tokens. Raises as `count_tokens`."""
        await self._count()
        return _JUDGED[0] if max_tokens is None else _READ

    async def models(self) -> Sequence[str] | None:
        """Return None: the upstream has no list."""
        return None

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""

    async def _count(self) -> None:
        if not self.server.counts_first:
            raise NotCountedError("it does not count")
        await self.server.world.pause(self.server.world.chance.uniform(0.01, 0.5))
        if self.server.world.strikes(Fault.MODEL_FAILS, 0.2):
            raise TransientError("the count failed")

    async def _take(self, label: str, *, work: bool) -> UpstreamCall:
        """Have the upstream take a call. Raises the `PortError` of one that does not, and so does not bill it."""
        world, effect = self.server.world, asyncio.current_task()
        self.watcher.upstream_asked(effect, label, work, left=effect is not None and effect.cancelling() > 0)
        await world.pause(world.chance.uniform(0.001, 0.05))
        if (error := self.server.meet()) is not None:
            if not isinstance(error, ModelError) or error.fault is not ModelFault.FAILING:
                self.watcher.came_to_nothing(label, away=isinstance(error, ModelError))
            raise error
        call = self.watcher.upstream_takes(effect, self.server.name, label, work)
        call.billed = _READ if work else _JUDGED[0], 0
        return call

    @contextmanager
    def _exchange(self, call: UpstreamCall) -> Iterator[None]:
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.watcher.cut_off(call.label)
            raise

    async def _begin(self, call: UpstreamCall) -> None:
        """Work up to the first byte. Raises the `PortError` of a call that may be billed all the same."""
        world = self.server.world
        delay_s = world.chance.uniform(0.02, 0.5)
        if world.strikes(Fault.MODEL_SLOW, 0.1):
            delay_s = world.chance.uniform(2, 40)
        with self.work.on(call.label):
            await world.pause(delay_s)
        if self.server.breaks(0.05):
            self._break(call)
        if world.strikes(Fault.MODEL_FAILS, 0.03):
            self.watcher.came_to_nothing(call.label, away=False)
            raise PermanentError("refused")

    def _break(self, call: UpstreamCall) -> NoReturn:
        """Leave the call without an answer. The upstream may have done none, some or all of the work that it bills."""
        chance, process = self.server.world.chance, present()
        call.billed = call.billed[0], chance.choice([0, 5, self.server.written_max])
        error = chance.choice(_UNANSWERED)()
        self.watcher.upstream_unanswered(call, at_once=process is not None and not process.still_until_s)
        if isinstance(error, PermanentError):
            self.watcher.came_to_nothing(call.label, away=False)
        raise error

    async def _piece(self, call: UpstreamCall, told: type[PortError] | None = None) -> None:
        world = self.server.world
        delay_s = world.chance.uniform(0.01, 0.3)
        if world.strikes(Fault.MODEL_SLOW, 0.3):
            delay_s = world.chance.uniform(0.3, 3)
        with self.work.on(call.label):
            await world.pause(delay_s)
        if self.server.breaks(0.05):
            if told is not None and world.chance.happens(0.5):
                raise told("the upstream broke off its answer, and said so")
            raise ModelError("the upstream broke off its answer", ModelFault.FAILING)

    def _so_far(self, call: UpstreamCall, data: bytes, number: int, reported: ReportedUsage) -> RelaySoFar:
        if not self.server.counts_first:
            return RelaySoFar(None, data.decode(), reported=reported, counts_last=True)
        call.prompt_told = True
        return RelaySoFar(Usage(_READ, 1), unseen_tokens=10 * number, reported=reported)

    def _completion(self, call: UpstreamCall, text: str, model: str, usage: Usage | None) -> Completion:
        return Completion(text, model, usage, "end_turn", ReportedUsage(call.call_id), len(text))

    def _written(self, call: UpstreamCall, max_tokens: int, given_bytes: int) -> Usage | None:
        # A token has at least a byte, and no upstream here writes more than it was asked for.
        return self._bill(call, (_READ, min(self.server.written_max, max_tokens, given_bytes)))

    def _bill(self, call: UpstreamCall, tokens: tuple[int, int]) -> Usage | None:
        """Bill a call that came to its end, and return its figures; None when they are unreadable."""
        call.billed = tokens
        call.told = not self.server.world.strikes(Fault.MODEL_FAILS, 0.1)
        return Usage(*tokens) if call.told else None


class SimulatedUpstreams:
    """`Models` with several upstreams each: the program's own routing and breakers before them."""

    def __init__(
        self,
        world: World,
        store: StoreAccess,
        watcher: Watcher,
        work: Work,
        prices: Mapping[str, ModelPrice],
        count: int,
    ) -> None:
        self._world = world
        self._store = store
        self._watcher = watcher
        self._work = work
        names = _NAMES[:count]
        self._servers = {
            name: UpstreamServer(world, name, _WRITTEN_MAX[at], counts_first=at != 1) for at, name in enumerate(names)
        }
        orders = {WORK_MODEL: names, EVAL_MODEL: names[::-1]}
        entries = tuple(ModelEntry(name, order, f"{name}-there", prices[name]) for name, order in orders.items())
        upstreams = tuple(Upstream(name, Api.ANTHROPIC, f"https://{name}.example", 5.0, 30.0) for name in names)
        self._catalogue = Catalogue(entries, upstreams)

    def for_host(self, now_ms: Callable[[], int]) -> tuple[Model, Callable[[], Awaitable[None]] | None]:
        """Build the model of one process, and what admits sales there, as `build_model` does."""
        gates = {
            server.name: ModelGate(self._board(server), now_ms, upstream=server.name, chance=self._world.chance.random)
            for server in self._servers.values()
        }
        providers = {
            name: GatedProvider(SimulatedProvider(server, self._watcher, self._work), gates[name])
            for name, server in self._servers.items()
        }
        return Upstreams(self._catalogue, providers, EVAL_MODEL), partial(admit_sale_by_one, list(gates.values()))

    def watches(self) -> Sequence[ModelWatch]:
        """Build the watches over the upstreams, one each."""
        return [
            ModelWatch(
                server,
                self._board(server),
                self._world.now_ms,
                upstream=server.name,
                pause=self._world.pause,
                clock=self._world.loop.time,
                chance=self._world.chance.random,
            )
            for server in self._servers.values()
        ]

    def _board(self, server: UpstreamServer) -> SimulatedModelBoard:
        return SimulatedModelBoard(self._store, server.board)
