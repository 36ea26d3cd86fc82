"""Answers to a session's request: evaluation first, then the work, whole or piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from msgspec.structs import replace

from ..domain.llm.answers import (
    Completion,
    Ending,
    RequestOutcome,
    Served,
    Step,
    TextDelta,
    Unanswered,
    UsageSoFar,
    cut_off,
)
from ..domain.llm.intents import AnswerRequest
from ..domain.llm.reported_usage import ReportedUsage, served_by
from ..domain.pricing import Usage
from ..port_errors import told
from ..ports import Evaluation, Model, PortError, RefusedRequestError, TransientError
from .delivered_count import given_tokens
from .progress import ProgressChannel
from .retry import COUNTS_WITHIN_S, ENDS_WITHIN_S, LINGERS_S, PASSES_WITHIN_S, Pause, with_retries

_CANCELLED: Final = "cancelled"
_BROKEN: Final = "model_failed"

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class _Draft:
    """State of an answer so far. `seen` is None before the provider has counted anything.

    `asked`: the call that is under way at the provider. `log` has the ids of the request.
    """

    def __init__(self, log: Any) -> None:
        self.log = log
        self.evaluation: Evaluation | None = None
        self.asked: Step | None = None
        self.pieces: list[str] = []
        self.seen: UsageSoFar | None = None
        self.pauses = False
        self.upstream: str | None = None
        self.reported: ReportedUsage | None = None
        # Set when the client leaves in the middle of an answer: whether a block had ended then.
        self._waits_for_end: bool | None = None

    @property
    def begun(self) -> bool:
        """Return whether the provider has done work that it will bill."""
        return self.seen is not None or bool(self.pieces)

    async def asking(self, step: Step, call: Callable[[], Awaitable[T]]) -> T:
        """Return the call's result. It counts as under way until it has ended, also after it was cancelled."""
        self.asked = step
        try:
            found = await call()
        except PortError:
            self.asked = None
            raise
        self.asked = None
        return found

    @property
    def text(self) -> str:
        """Text that was given so far."""
        return "".join(self.pieces)

    @property
    def known(self) -> bool:
        """Return whether a leaving client's cost is known as far as it will be, so that the call can end."""
        if self._waits_for_end is None:
            return True
        final = self.seen is not None and self.seen.final
        return final or (self._waits_for_end and not self.pauses)

    def lingers_s(self) -> float:
        """Return how many seconds a stream goes on whose client leaves now, as in `relay`."""
        if self.asked is not Step.WORK:
            return 0.0
        if not self.begun:
            return LINGERS_S
        self._waits_for_end = self.pauses
        return ENDS_WITHIN_S if self._waits_for_end else PASSES_WITHIN_S

    def outcome(self, ending: Ending, model: str, stop_reason: str, text_tokens: int | None = None) -> RequestOutcome:
        """Return the outcome of the answer so far.

        `text_tokens` are those of `text`, where the provider has counted them.
        """
        if not self.begun:
            return RequestOutcome(ending, self.evaluation)
        completion = cut_off(self.text, model, self.seen, stop_reason, text_tokens)
        completion = replace(completion, reported=served_by(self.upstream, completion.reported or self.reported))
        return RequestOutcome(ending, self.evaluation, completion)


class AnswerEffect:
    """Runner of `AnswerRequest`."""

    def __init__(self, model: Model, pause: Pause) -> None:
        self._model = model
        self._pause = pause

    async def answer(self, intent: AnswerRequest, progress: ProgressChannel, log: Any = _log) -> RequestOutcome:
        """Return the outcome. Raises `PortError` when the model failed before it had given anything of the answer.

        `log` has the ids of the request.
        """
        if intent.held is not None:
            progress.emit(intent.held)
        draft = _Draft(log)
        progress.lingers_s = lambda: draft.lingers_s() if intent.stream else 0.0
        return await progress.while_heard(
            lambda: self._answer(intent, progress, draft), lambda: self._left(intent, draft)
        )

    async def _left(self, intent: AnswerRequest, draft: _Draft) -> RequestOutcome:
        """Return the outcome of a request that its client has left."""
        if draft.begun or draft.asked is None:
            final = draft.seen is not None and draft.seen.final
            text_tokens = None if final else await given_tokens(self._model, draft.text, intent.model, log=draft.log)
            if draft.begun and draft.seen is None:
                # This provider counts nothing before the end.
                prompt_tokens = await self._prompt_tokens(intent, Step.WORK, draft.log)
                draft.seen = None if prompt_tokens is None else UsageSoFar(Usage(prompt_tokens, 0))
            return draft.outcome(Ending.LEFT, intent.model, _CANCELLED, text_tokens)
        tokens = await self._prompt_tokens(intent, draft.asked, draft.log)
        return RequestOutcome(Ending.LEFT, draft.evaluation, unanswered=Unanswered(draft.asked, tokens))

    async def _prompt_tokens(self, intent: AnswerRequest, step: Step, log: Any) -> int | None:
        model = None if step is Step.EVALUATION else intent.model
        try:
            async with asyncio.timeout(COUNTS_WITHIN_S):
                return await self._model.prompt_tokens(intent.request, model=model, max_tokens=intent.max_tokens)
        except (PortError, TimeoutError) as error:
            log.warning("prompt_not_counted", **told(error))
            return None

    async def _answer(self, intent: AnswerRequest, progress: ProgressChannel, draft: _Draft) -> RequestOutcome:
        evaluating = partial(self._model.evaluate, intent.request)
        evaluation = await with_retries(self._pause, lambda: draft.asking(Step.EVALUATION, evaluating), log=draft.log)
        draft.evaluation = evaluation
        if not evaluation.verdict.accepted:
            return RequestOutcome(Ending.REJECTED, evaluation)
        try:
            return await self._work(intent, progress, draft, evaluation)
        except RefusedRequestError:
            # The provider does not bill a refusal.
            return RequestOutcome(Ending.REJECTED, evaluation, declined=True)

    async def _work(
        self, intent: AnswerRequest, progress: ProgressChannel, draft: _Draft, evaluation: Evaluation
    ) -> RequestOutcome:
        if not intent.stream:
            working = partial(self._model.complete, intent.request, model=intent.model, max_tokens=intent.max_tokens)
            completion = await with_retries(self._pause, lambda: draft.asking(Step.WORK, working), log=draft.log)
            return RequestOutcome(Ending.COMPLETE, evaluation, completion)
        streaming = partial(self._stream, intent, progress, draft)
        try:
            completion = await with_retries(
                self._pause,
                lambda: draft.asking(Step.WORK, streaming),
                lambda: draft.begun or progress.stopped,
                draft.log,
            )
        except PortError as error:
            if not draft.pieces or isinstance(error, RefusedRequestError):
                # The client was given nothing, as with a whole answer that breaks off.
                raise
            draft.log.warning("model_failed_midway", **told(error))
            return draft.outcome(Ending.BROKEN, intent.model, _BROKEN)
        return RequestOutcome(Ending.COMPLETE, evaluation, completion)

    async def _stream(self, intent: AnswerRequest, progress: ProgressChannel, draft: _Draft) -> Completion:
        parts = self._model.stream(intent.request, model=intent.model, max_tokens=intent.max_tokens)
        async with aclosing(parts):
            async for part in parts:
                match part:
                    case Served(upstream=upstream):
                        draft.upstream = upstream
                    case ReportedUsage():
                        draft.reported = part
                    case TextDelta(text=text):
                        draft.pieces.append(text)
                        draft.pauses = False
                        progress.emit(part)
                    case UsageSoFar():
                        draft.seen, draft.pauses = part, part.pauses
                    case Completion():
                        return part
                if draft.known:
                    progress.end_unheard()
        raise TransientError("the model's answer has no end")
