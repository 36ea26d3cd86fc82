"""Health check of the model provider, which costs nothing: at the start, now and then, and while it is away."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

import structlog
from msgspec.structs import replace

from ..domain.provider_faults import ModelFault
from ..ports import ModelError, ModelProbe, PortError
from .circuit_breaker import tell_of_outage
from .outage import ANTHROPIC, TRIAL_MS, ModelBoard, ModelOutage, Sleep, Stage, backoff_ms

_TURN_S: Final = 0.5
# Time between two questions while all is well. So a shop without customers knows that it must not take any.
_LOOK_EVERY_S: Final = 30.0
_LOOK_AGAIN_S: Final = 2.0
_MISSES_MAX: Final = 2
# An unreachable provider, or a refused key, concerns all calls. Other failures may concern this question alone.
_TELLING: Final = frozenset({ModelFault.UNREACHABLE, ModelFault.REFUSED})
_log = structlog.get_logger(__name__)


class ModelWatch:
    """Watch over one upstream. Runs once, beside the treasury; one for a cluster is enough.

    It holds nothing that must survive. Calls that fail begin an outage (`ModelGate`). A provider that could not be
    reached is back when it answers a question that costs nothing. One that answered with failures may answer that
    question and fail all the same: then paid calls that wait anyway are let through, and the first of them decides.
    """

    def __init__(
        self,
        probe: ModelProbe,
        board: ModelBoard,
        now_ms: Callable[[], int],
        *,
        upstream: str = ANTHROPIC,
        clock: Callable[[], float] = time.monotonic,
        pause: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._probe = probe
        self._upstream = upstream
        self._board = board
        self._now_ms = now_ms
        self._clock = clock
        self._pause = pause
        self._chance = chance
        self._look_at_s = 0.0
        # At the start one miss is enough. The first client must not be sold work before the provider was checked.
        self._misses = _MISSES_MAX - 1
        # An older outage is logged once more. An operator who restarts the server looks into the log for the reason.
        self._untold_ms = now_ms()
        # Whether the provider has ever answered the question as it should. Some gateways never do.
        self._understood = False

    async def run(self) -> None:
        """Watch until cancelled. While the store does not answer, nothing is known and nothing is asked."""
        try:
            while True:
                try:
                    await self.look()
                except PortError as error:
                    _log.debug("model_news_not_told", error=str(error))
                await self._pause(_TURN_S)
        finally:
            await self._probe.close()

    async def look(self) -> None:
        """Ask the provider, if it is time. Raises `TransientError` when the store does not answer."""
        word, now_ms = await self._board.read(), self._now_ms()
        down = word.down(now_ms)
        if down is None:
            await self._look_while_up(word.outage)
        elif not down.left_ms(now_ms):
            await self._try_again(down)

    async def _look_while_up(self, known: ModelOutage | None) -> None:
        if self._clock() < self._look_at_s:
            return
        error = await self._ask()
        if error is None or error.fault not in _TELLING:
            self._misses, self._look_at_s = 0, self._clock() + _LOOK_EVERY_S
            return
        self._misses, self._look_at_s = self._misses + 1, self._clock() + _LOOK_AGAIN_S
        if self._misses >= _MISSES_MAX:
            now_ms = self._now_ms()
            outage = ModelOutage(Stage.DOWN, error.fault, now_ms, now_ms + backoff_ms(0, self._chance))
            if await self._board.swap(known, outage):
                tell_of_outage(self._upstream, error.fault, str(error))

    async def _try_again(self, outage: ModelOutage) -> None:
        self._misses, self._look_at_s = 0, 0.0
        error, now_ms = await self._ask(), self._now_ms()
        if error is not None and (error.fault in _TELLING or self._understood):
            tries = outage.tries + 1
            until_ms = now_ms + backoff_ms(tries, self._chance)
            later = replace(outage, fault=error.fault, until_ms=until_ms, tries=tries)
            if await self._board.swap(outage, later) and (outage.fault is None or outage.since_ms < self._untold_ms):
                tell_of_outage(self._upstream, error.fault, str(error))
                self._untold_ms = 0
        elif error is None and outage.fault in (None, ModelFault.UNREACHABLE):
            if await self._board.swap(outage, None) and outage.fault is not None:
                _log.info("model_provider_back", upstream=self._upstream, away_s=(now_ms - outage.since_ms) // 1_000)
        else:
            await self._board.swap(outage, replace(outage, stage=Stage.TRIAL, until_ms=now_ms + TRIAL_MS))

    async def _ask(self) -> ModelError | None:
        """Ask the provider, and return the error that keeps it from answering, if any."""
        try:
            self._understood = await self._probe.ask() or self._understood
        except ModelError as error:
            return error
        return None
