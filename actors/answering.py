"""Answers a session's request: evaluation first, then the work, whole or piece by piece."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

import structlog

from .domain.answers import Completion, Ending, RequestOutcome, TextDelta, UsageSoFar, cut_off
from .domain.intents import AnswerRequest
from .domain.pricing import Usage
from .outlet import Outlet
from .patience import Pause, patiently
from .ports import Evaluation, Model, PortError, TransientError

_CANCELLED: Final = "cancelled"
_BROKEN: Final = "model_failed"

_log = structlog.get_logger(__name__)


class _Draft:
    """What has come of an answer so far. `seen` is None before the provider has counted anything."""

    def __init__(self) -> None:
        self.evaluation: Evaluation | None = None
        self.pieces: list[str] = []
        self.seen: UsageSoFar | None = None

    @property
    def begun(self) -> bool:
        """Whether the provider has done work that it will bill."""
        return self.seen is not None or bool(self.pieces)

    def outcome(self, ending: Ending, model: str, stop_reason: str) -> RequestOutcome:
        """What there is, as the end of it."""
        if not self.begun:
            return RequestOutcome(ending, self.evaluation)
        completion = cut_off("".join(self.pieces), model, self.seen or UsageSoFar(Usage(0, 0)), stop_reason)
        return RequestOutcome(ending, self.evaluation, completion)


class Answering:
    """Runs `AnswerRequest`."""

    def __init__(self, model: Model, pause: Pause) -> None:
        self._model = model
        self._pause = pause

    async def answer(self, intent: AnswerRequest, outlet: Outlet) -> RequestOutcome:
        """The outcome. Raises `PortError` when the model failed before it had given anything of the answer."""
        draft = _Draft()
        return await outlet.while_heard(
            lambda: self._answer(intent, outlet, draft),
            lambda: draft.outcome(Ending.LEFT, intent.model, _CANCELLED),
        )

    async def _answer(self, intent: AnswerRequest, outlet: Outlet, draft: _Draft) -> RequestOutcome:
        evaluation = await patiently(self._pause, lambda: self._model.evaluate(intent.request))
        draft.evaluation = evaluation
        if not evaluation.verdict.accepted:
            return RequestOutcome(Ending.REJECTED, evaluation)
        if not intent.stream:
            completion = await patiently(
                self._pause,
                lambda: self._model.complete(intent.request, model=intent.model, max_tokens=intent.max_tokens),
            )
            return RequestOutcome(Ending.COMPLETE, evaluation, completion)
        try:
            completion = await patiently(self._pause, lambda: self._stream(intent, outlet, draft), lambda: draft.begun)
        except PortError as error:
            if not draft.begun:
                raise
            _log.warning("the model failed in the middle of an answer", error=str(error))
            return draft.outcome(Ending.BROKEN, intent.model, _BROKEN)
        return RequestOutcome(Ending.COMPLETE, evaluation, completion)

    async def _stream(self, intent: AnswerRequest, outlet: Outlet, draft: _Draft) -> Completion:
        parts = self._model.stream(intent.request, model=intent.model, max_tokens=intent.max_tokens)
        async with aclosing(parts):
            async for part in parts:
                match part:
                    case TextDelta(text=text):
                        draft.pieces.append(text)
                        outlet.emit(part)
                    case UsageSoFar():
                        draft.seen = part
                    case Completion():
                        return part
        raise TransientError("the model's answer has no end")
