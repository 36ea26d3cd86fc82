"""Circuit breaker before the model provider: holds calls back while it is away, and learns from those it admits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

import structlog

from ..domain.llm.answers import Completion, StreamPart, TextDelta
from ..domain.llm.relays import Give, RelayBegun, RelayBytes, RelayEnd, RelayPart
from ..domain.provider_faults import ModelFault
from ..port_errors import LeftError, did_nothing
from ..ports import Evaluation, HeldBackError, ModelError, PortError, Provider, SilentError, ToldError
from .outage import (
    ANTHROPIC,
    ASK_BEFORE_SALES_S,
    FAILURES_MAX,
    ModelBoard,
    ModelCache,
    ModelOutage,
    ModelWait,
    Stage,
    backoff_ms,
)
from .plain_question import PlainQuestion

T = TypeVar("T")
Works = Callable[[], Awaitable[bool]]
# Waiting calls must not come all at once when the provider is back.
_SPREAD_S: Final = 2.0
# Faults that are reported as they are while a wait lasts. All others are reported as `UNAVAILABLE`.
_SAID: Final = frozenset({ModelFault.LIMITED, ModelFault.OVERLOADED})
_log = structlog.get_logger(__name__)


class ModelGate:
    """Gate that decides whether the provider may be called, and counts the outcomes of calls."""

    def __init__(
        self,
        board: ModelBoard,
        now_ms: Callable[[], int],
        *,
        upstream: str = ANTHROPIC,
        cache: ModelCache | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._board = board
        self._now_ms = now_ms
        self._upstream = upstream
        self._cache = cache or ModelCache(board)
        self._chance = chance

    async def admit(self, model: str | None = None) -> None:
        """Let a call through. Raises `HeldBackError` while the provider is away, or has asked for a wait."""
        word, now_ms = await self._cache.current(), self._now_ms()
        if word.down(now_ms) is not None:
            # The provider may be back since. A call that is held back now waits much longer than this look takes.
            self._cache.outdate()
            word = await self._cache.current()
        if (outage := word.down(now_ms)) is not None:
            raise self._held_back("the model provider is away", outage.left_ms(now_ms))
        if model is not None and (wait := word.wait(model, now_ms)) is not None:
            wait_s = wait.left_ms(now_ms) / 1_000
            raise HeldBackError("the model provider has asked for a wait", wait.fault, wait_s)

    async def admit_sale(self) -> None:
        """Let a sale through. Raises `HeldBackError` while the last calls failed."""
        word, now_ms = await self._cache.current(ASK_BEFORE_SALES_S), self._now_ms()
        if (outage := word.closed(now_ms)) is not None:
            raise self._held_back("the model provider is away", outage.left_ms(now_ms))

    def _held_back(self, message: str, wait_ms: int) -> HeldBackError:
        wait_s = wait_ms / 1_000 + 0.5 + _SPREAD_S * self._chance()
        return HeldBackError(message, ModelFault.UNAVAILABLE, wait_s)

    async def failed(self, model: str, error: PortError, works: Works | None = None) -> bool:
        """Count a failed call; return whether the provider is now taken for away.

        `works`: asks whether the provider answers other calls, where a failure may lie in the request.
        """
        fault = error.fault if isinstance(error, ModelError) else ModelFault.FAILING
        try:
            await self._keep_wait(model, error)
            # A limit on our calls is not an outage of the provider.
            return fault is not ModelFault.LIMITED and await self._count(fault, error, works)
        except PortError:
            return False  # The store is away, and without it no call reaches the provider.

    async def succeeded(self) -> None:
        """Count a successful call: an outage that is on trial is over."""
        word = self._cache.known
        if word.down(self._now_ms()) is not None:
            return  # The call began before the outage did.
        try:
            if word.outage is not None or word.failures:
                await self._forget(word.outage)
        except PortError:
            return

    async def _forget(self, outage: ModelOutage | None) -> None:
        """Forget failures, and the outage that is on trial: the provider works."""
        if outage is None:
            await self._board.forget_failures()
        elif await self._board.swap(outage, None):
            away_s = (self._now_ms() - outage.since_ms) // 1_000
            _log.info("model_provider_back", upstream=self._upstream, away_s=away_s)
        self._cache.outdate()

    async def _keep_wait(self, model: str, error: PortError) -> None:
        if isinstance(error, ModelError) and error.retry_after_s:
            told_ms = self._now_ms()
            until_ms = told_ms + int(error.retry_after_s * 1_000)
            fault = error.fault if error.fault in _SAID else ModelFault.UNAVAILABLE
            await self._board.tell_wait(model, ModelWait(fault, until_ms, told_ms))
            self._cache.outdate()

    async def _count(self, fault: ModelFault, error: PortError, works: Works | None) -> bool:
        word = await self._board.read()
        known, now_ms = word.outage_at(self._now_ms()), self._now_ms()
        if known is not None and known.stage is Stage.DOWN:
            return True
        if known is None and await self._board.count_failure() < FAILURES_MAX:
            self._cache.outdate()
            return False
        if fault is ModelFault.FAILING and works is not None and await works():
            await self._forget(word.outage)
            return False
        now_ms = self._now_ms()
        tries, since_ms = (0, now_ms) if known is None else (known.tries + 1, known.since_ms)
        outage = ModelOutage(Stage.DOWN, fault, since_ms, now_ms + backoff_ms(tries, self._chance), tries)
        if await self._board.swap(word.outage, outage) and known is None:
            tell_of_outage(self._upstream, fault, str(error))
        self._cache.outdate()
        return True


async def admit_sale_by_one(gates: Sequence[ModelGate]) -> None:
    """Let a sale through that one of these gates admits. Raises the `HeldBackError` that passes soonest."""
    held_back: list[HeldBackError] = []
    for gate in gates:
        try:
            return await gate.admit_sale()
        except HeldBackError as error:
            held_back.append(error)
    raise min(held_back, key=lambda error: error.retry_after_s or 0)


def tell_of_outage(upstream: str, fault: ModelFault, reason: str) -> None:
    """Log the outage, once for each."""
    hint = (
        "nothing that it alone serves is sold, and what was paid waits, until it answers; it is tried again by itself"
    )
    if fault is ModelFault.REFUSED:
        key = "ANTHROPIC_API_KEY" if upstream == ANTHROPIC else "its key in SATMETER_MODELS_FILE"
        hint = f"check {key}, and the account's credit and rights: {hint}"
    _log.error("model_provider_down", upstream=upstream, fault=fault.value, reason=reason, hint=hint)


class GatedProvider:
    """Provider with a gate before it: each call is admitted first, and its outcome counted.

    `question` is asked before calls that broke take the provider for away; without one their number is enough.
    """

    def __init__(self, provider: Provider, gate: ModelGate, question: PlainQuestion | None = None) -> None:
        self._provider = provider
        self._gate = gate
        self._question = question

    def prepare(self) -> object:
        """See `Provider`."""
        return self._provider.prepare()

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """See `Provider`. Raises `HeldBackError`, too."""
        return await self._through(model, lambda: self._provider.evaluate(request, model=model))

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """See `Provider`. Raises `HeldBackError`, too."""
        return await self._through(model, lambda: self._provider.complete(request, model=model, max_tokens=max_tokens))

    def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """See `Provider`. Raises `HeldBackError`, too."""
        return self._parts_through(model, self._provider.stream(request, model=model, max_tokens=max_tokens))

    def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """See `Provider`. Raises `HeldBackError`, too."""
        parts = self._provider.relay(body, headers, model=model, beta=beta, stream=stream, give=give)
        return self._parts_through(model, parts)

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """See `Provider`. Raises `HeldBackError`, too. Its failures say nothing about calls for an answer."""
        await self._admit()
        return await self._provider.count_tokens(body, headers, beta=beta)

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """See `Provider` and `count_tokens`."""
        await self._admit()
        return await self._provider.prompt_tokens(request, model=model, max_tokens=max_tokens)

    async def models(self) -> Sequence[str] | None:
        """See `Provider`. It is asked also while it is away."""
        return await self._provider.models()

    async def close(self) -> None:
        """See `Provider`."""
        await self._provider.close()

    async def _admit(self, model: str | None = None) -> None:
        try:
            await self._gate.admit(model)
        except asyncio.CancelledError:
            # A call that ends as cancelled counts as sent, and is charged. This one was never sent.
            raise LeftError("left before it was called", ModelFault.UNAVAILABLE) from None

    async def _through(self, model: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._admit(model)
        try:
            result = await call()
        except (ModelError, SilentError) as error:
            raise await self._judged(model, error) from None
        await self._gate.succeeded()
        return result

    async def _parts_through(self, model: str, parts: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        proven = False
        try:
            await self._admit(model)
            try:
                async for part in parts:
                    # The success is counted before the part is given: a caller that has the last part asks for no
                    # other.
                    if not proven and _proves(part):
                        proven = True
                        await self._gate.succeeded()
                    yield part
            except (ModelError, SilentError, ToldError) as error:
                raise await self._judged(model, error) from None
        finally:
            await parts.aclose()

    async def _judged(self, model: str, error: PortError) -> PortError:
        """Return the error as waiting callers should see it: while all calls fail, a failed one has met an outage."""
        works = None if self._question is None else partial(self._works, self._question, model, error)
        try:
            away = await self._gate.failed(model, error, works)
        except asyncio.CancelledError:
            if not did_nothing(error):
                raise
            # As above: this call is not billed, and no other upstream is to be asked for a client that has left.
            raise LeftError(str(error), ModelFault.UNAVAILABLE) from None
        if away and isinstance(error, ModelError) and error.fault is ModelFault.FAILING:
            taken = not error.answered
            return ModelError(
                str(error), ModelFault.UNAVAILABLE, error.retry_after_s, answered=error.answered, taken=taken
            )
        return error

    async def _works(self, question: PlainQuestion, model: str, error: PortError) -> bool:
        """Return whether the provider works. Raises the error if its caller leaves: the call has failed by then."""
        try:
            return await question.is_answered(model)
        except asyncio.CancelledError:
            if did_nothing(error):
                raise
            # The question may take seconds. A call that ends as cancelled is charged, and one that failed is not.
            raise error from None


def _proves(part: object) -> bool:
    """Return whether a part proves that the provider works. Its refusal of one call proves nothing about others."""
    if isinstance(part, RelayEnd):
        return part.status < 400
    return isinstance(part, TextDelta | RelayBegun | RelayBytes | Completion)
