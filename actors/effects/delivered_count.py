"""Count of the tokens that a stream had given when its client left: by the provider, which takes nothing for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog

from ..ports import Model, PortError

# A shorter text is not worth a call: its estimate is off by some tens of tokens at most.
_LEAST_BYTES: Final = 600
# The provider counts some tokens around the text of a message: 6 to 11, by the model.
_FRAME_TOKENS: Final = 6
_WITHIN_S: Final = 2.0
_log = structlog.get_logger(__name__)


async def given_tokens(
    model: Model,
    text: str,
    name: str,
    headers: Mapping[str, str] | None = None,
    *,
    named: str | None = None,
    beta: bool = False,
    log: Any = _log,
) -> int | None:
    """Return the tokens of a text as the model of this name counts it; None when it is short or not counted in time.

    `named`: the name that the call gave the model, if it is another. `log` has the ids of the request or call.
    """
    size_bytes = len(text.encode(errors="surrogatepass"))
    if size_bytes < _LEAST_BYTES:
        return None
    try:
        body = msgspec.json.encode({"model": named or name, "messages": [{"role": "user", "content": text}]})
        async with asyncio.timeout(_WITHIN_S):
            counted = (await model.count_tokens(body, headers or {}, model=name, beta=beta)).counted
    except (PortError, TimeoutError, ValueError) as error:
        log.warning("given_text_not_counted", error=str(error))
        return None
    return None if counted is None else min(size_bytes, max(1, counted - _FRAME_TOKENS))
