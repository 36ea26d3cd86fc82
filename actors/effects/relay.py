"""Relay of a session's call to the model's provider, whole or piece by piece, with the usage as its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import structlog
from msgspec.structs import replace

from ..domain.llm.answers import Ending, Served
from ..domain.llm.chat_prompt import estimated_body
from ..domain.llm.intents import RelayRequest
from ..domain.llm.relays import (
    RelayBegun,
    RelayBytes,
    RelayEnd,
    RelayHead,
    RelayOutcome,
    RelaySoFar,
    countable,
    model_of,
)
from ..domain.llm.reported_usage import served_by
from ..domain.llm.token_estimate import estimated_tokens
from ..domain.pricing import Usage
from ..port_errors import told
from ..ports import Model, PortError, ToldError, TransientError
from .delivered_count import given_tokens
from .progress import ProgressChannel, UnheardError
from .retry import COUNTS_WITHIN_S, ENDS_WITHIN_S, LINGERS_S, PASSES_WITHIN_S

# A thought that is not shown is billed all the same. If it was cut off, only its time is known. Models write between 50
# and 150 tokens a second.
_UNSEEN_TOKENS_PER_S: Final = 50
_log = structlog.get_logger(__name__)


class _Draft:
    """State of a call so far. `asked`: it is under way at the provider. `log` has the ids of the call."""

    __slots__ = (
        "_clock", "_given", "_model", "_seen", "_thinks_since_s", "_waits_for_end",
        "asked", "headers", "log", "pieces", "upstream",
    )  # fmt: skip

    def __init__(self, model: str, clock: Callable[[], float], log: Any) -> None:
        self.log = log
        self._model = model
        self._clock = clock
        self._seen: RelaySoFar | None = None
        self._given: list[str] = []
        self._thinks_since_s: float | None = None
        # Set when the client leaves in the middle of an answer: whether a block had ended then.
        self._waits_for_end: bool | None = None
        self.asked = False
        self.upstream: str | None = None
        self.headers: Mapping[str, str] = {}
        self.pieces: list[bytes] = []

    @property
    def begun(self) -> bool:
        """Return whether the provider has done work that it will bill."""
        return bool(self.pieces)

    @property
    def counts_last(self) -> bool:
        """Return whether no count is to be had before the answer's end."""
        return self._seen is not None and self._seen.counts_last

    @property
    def counted(self) -> bool:
        """Return whether the cost of the prompt is known."""
        return self._seen is not None and self._seen.usage is not None

    def count(self, seen: RelaySoFar) -> None:
        """Take in the provider's count so far."""
        self._seen = seen
        self._given.append(seen.given)
        if not seen.thinks:
            self._thinks_since_s = None
        elif self._thinks_since_s is None:
            self._thinks_since_s = self._clock()

    @property
    def known(self) -> bool:
        """Return whether a leaving client's cost is known as far as it will be, so that the call can end."""
        if self._waits_for_end is None:
            return self.counted or self.counts_last
        return self.final or (self._waits_for_end and not self.pauses)

    def lingers_s(self) -> float:
        """Return how many seconds a stream goes on whose client leaves now.

        Its first event shows the cost of the prompt, cache and all, and its last the cost of the answer. The last event
        is waited for only where a stream seems to be at its end.
        """
        if not self.asked:
            return 0.0
        if not self.counted and not self.counts_last:
            return LINGERS_S
        self._waits_for_end = self.pauses
        return ENDS_WITHIN_S if self.pauses else PASSES_WITHIN_S

    @property
    def final(self) -> bool:
        """Return whether the cost of the whole answer is known."""
        return self._seen is not None and self._seen.final

    @property
    def pauses(self) -> bool:
        """Return whether a block has ended and no other has begun: most likely the last one."""
        return self._seen is not None and self._seen.pauses

    @property
    def text(self) -> str:
        """Text that was given so far."""
        return "".join(self._given)

    def outcome(
        self, ending: Ending, end: RelayEnd | None = None, *, told: bool = False, text_tokens: int | None = None
    ) -> RelayOutcome:
        """Return the outcome of the call so far.

        `text_tokens` are those of `text`, where the provider has counted them.
        """
        given = end.given_tokens if end else self._given_tokens(text_tokens)
        usage = end.usage if end else None
        if end is None and self._seen is not None and self._seen.usage is not None:
            usage = self._seen.usage
            if not self._seen.final:
                usage = replace(usage, output_tokens=max(usage.output_tokens, given))
        body = b"".join(self.pieces)
        charged = self.begun and not (end and end.declined)
        source = end or self._seen
        reported = served_by(self.upstream, None if source is None else source.reported)
        given_bytes = end.given_bytes if end else 0
        return RelayOutcome(ending, True, 200, self.headers, body, charged, usage, given, told, reported, given_bytes)

    def _given_tokens(self, text_tokens: int | None) -> int:
        given = estimated_tokens(self.text, self._model) if text_tokens is None else text_tokens
        given += self._seen.unseen_tokens if self._seen else 0
        if self._thinks_since_s is not None:
            given += int((self._clock() - self._thinks_since_s) * _UNSEEN_TOKENS_PER_S)
        return given


def _take(progress: ProgressChannel, draft: _Draft, data: RelayBytes, seen: RelaySoFar) -> None:
    """Pass bytes on with their count. Raises `UnheardError` where that is the last that is needed."""
    draft.pieces.append(data.data)
    progress.emit(data)
    _count(progress, draft, seen)


def _count(progress: ProgressChannel, draft: _Draft, seen: RelaySoFar) -> None:
    draft.count(seen)
    if progress.stopped and draft.known:
        raise UnheardError


class RelayEffect:
    """Runner of `RelayRequest`."""

    def __init__(self, model: Model, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock

    def relay(
        self, intent: RelayRequest, progress: ProgressChannel, log: Any = _log
    ) -> Coroutine[Any, Any, RelayOutcome]:
        """Return what brings the outcome. Raises `PortError` when the provider failed before it had given anything.

        The provider is asked once: the SDKs that call these paths try again by themselves. `log` has the ids of the
        call.
        """
        if intent.held is not None:
            progress.emit(intent.held)
        draft = _Draft(intent.model, self._clock, log)
        if intent.stream:
            progress.lingers_s = draft.lingers_s
        return progress.while_heard(partial(self._relay, intent, progress, draft), partial(self._left, intent, draft))

    async def _left(self, intent: RelayRequest, draft: _Draft) -> RelayOutcome:
        """Return the outcome of a call that its client has left. Once it was sent, its prompt is billed."""
        text_tokens = None
        if (draft.counted or draft.counts_last) and not draft.final:
            named = model_of(intent.body.data)
            text_tokens = await given_tokens(
                self._model, draft.text, intent.model, intent.headers, named=named, beta=intent.beta, log=draft.log
            )
        outcome = replace(draft.outcome(Ending.LEFT, text_tokens=text_tokens), streamed=intent.stream)
        if outcome.usage is not None or not draft.asked:
            return outcome
        tokens = await self._prompt_tokens(intent, draft.log)
        if tokens is not None:
            usage = Usage(tokens, outcome.given_tokens, billed_as=intent.billed_as)
            return replace(outcome, charged=True, usage=usage)
        return _with_estimate(replace(outcome, charged=True), intent, draft)

    async def _prompt_tokens(self, intent: RelayRequest, log: Any) -> int | None:
        if intent.prompt_tokens is not None:
            return intent.prompt_tokens
        try:
            async with asyncio.timeout(COUNTS_WITHIN_S):
                body = countable(intent.body.data)
                end = await self._model.count_tokens(body, intent.headers, model=intent.model, beta=intent.beta)
                counted = end.counted
        except (PortError, TimeoutError, ValueError) as error:
            # The decoder's words quote nothing of the prompt.
            log.warning("prompt_not_counted", **told(error))
            return None
        return counted

    async def _relay(self, intent: RelayRequest, progress: ProgressChannel, draft: _Draft) -> RelayOutcome:
        draft.asked = True
        try:
            end = await self._asked(intent, progress, draft)
        except PortError as error:
            draft.asked = False
            if not draft.begun:
                raise
            draft.log.warning("model_failed_midway", **told(error))
            outcome = draft.outcome(Ending.BROKEN, told=isinstance(error, ToldError))
            return _with_estimate(outcome, intent, draft)
        if draft.begun:
            return draft.outcome(Ending.COMPLETE, end)
        # The answer is whole, or refused.
        charged = end.status < 400 and not end.declined
        return RelayOutcome(
            Ending.COMPLETE,
            False,
            end.status,
            end.headers,
            end.body,
            charged,
            end.usage,
            end.given_tokens,
            reported=served_by(draft.upstream, end.reported),
            given_bytes=end.given_bytes,
        )

    async def _asked(self, intent: RelayRequest, progress: ProgressChannel, draft: _Draft) -> RelayEnd:
        body = intent.body.lowered(intent.max_tokens)
        give = partial(_take, progress, draft) if intent.stream else None
        parts = self._model.relay(
            body, intent.headers, model=intent.model, beta=intent.beta, stream=intent.stream, give=give
        )
        try:
            async for part in parts:
                match part:
                    case Served(upstream=upstream):
                        draft.upstream = upstream
                    case RelayBegun(headers=headers):
                        draft.headers = headers
                        progress.emit(RelayHead(200, headers, intent.max_tokens, intent.at_ms))
                    case RelayBytes(data=data):
                        draft.pieces.append(data)
                        progress.emit(part)
                    case RelaySoFar():
                        _count(progress, draft, part)
                    case RelayEnd():
                        return part
        finally:
            await parts.aclose()
        raise TransientError("the model's answer has no end")


def _with_estimate(outcome: RelayOutcome, intent: RelayRequest, draft: _Draft) -> RelayOutcome:
    """Return the outcome with an estimate of the prompt's text, if its provider counts nothing before the end.

    The hold's estimate is made of an upper bound: of the model's longest prompt, where there is an image. A client that
    left pays that one for images: it could else have a dear prompt read at a discount, and leave before the end.
    """
    if outcome.usage is not None or not draft.counts_last:
        return outcome
    found = estimated_body(intent.body.data, intent.model)
    if found is None or (found.media and outcome.ending is Ending.LEFT):
        return outcome
    return replace(outcome, prompt_estimate=found.tokens)
