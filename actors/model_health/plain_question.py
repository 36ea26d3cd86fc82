"""Question that tells a broken provider from requests that break it: the shortest call for an answer.

A probe costs nothing, and says nothing of answers. Some servers answer 500 to what a client sent, such as an image to
a model without eyes. One client's broken conversation would else take the model from all clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from ..ports import ModelError, PortError, Provider, SilentError

_TEXT: Final = "Say hello."
_TOKENS: Final = 16
_WITHIN_S: Final = 10.0
# The operator pays for the question, so that no client may have it asked without end.
_BELIEVED_S: Final = 10.0
_log = structlog.get_logger(__name__)


class PlainQuestion:
    """Question to one provider. Calls that fail together share one, and a good answer counts for ten seconds."""

    def __init__(self, provider: Provider, upstream: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._upstream = upstream
        self._clock = clock
        self._asking: asyncio.Task[bool] | None = None
        self._good_until_s = float("-inf")

    async def is_answered(self, model: str) -> bool:
        """Return whether the provider answers a call that no client has a part in."""
        if self._clock() < self._good_until_s:
            return True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(model))
        return await asyncio.shield(self._asking)

    async def _ask(self, model: str) -> bool:
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._provider.complete(_TEXT, model=model, max_tokens=_TOKENS)
        except (ModelError, SilentError, TimeoutError):
            return False
        except PortError as error:
            # It answered, though with nothing that could be sold.
            _log.debug("plain_question_answered_oddly", upstream=self._upstream, error=str(error))
        self._good_until_s = self._clock() + _BELIEVED_S
        _log.warning(
            "model_provider_breaks_at_requests",
            upstream=self._upstream,
            hint="calls of clients failed, and a plain one did not: the requests are at fault, and sales go on",
        )
        return True
