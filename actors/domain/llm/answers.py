"""Answers of the model: the verdict on a request, and the answer to one, each with the tokens that it used."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ..behaviour import Reply
from ..pricing import BtcPrice, Size, Usage
from .reported_usage import ReportedUsage
from .token_estimate import estimated_tokens


class Verdict(msgspec.Struct, frozen=True):
    """The evaluation's decision: whether we do the work, why (a sentence for the client), and its size."""

    accepted: bool
    reason: str
    size: Size


class Evaluation(msgspec.Struct, frozen=True):
    """A verdict and the tokens that it took; `usage` is None when the provider's figures were unreadable."""

    verdict: Verdict
    model: str
    usage: Usage | None
    reported: ReportedUsage | None = None


class PricedEvaluation(msgspec.Struct, frozen=True):
    """An evaluation together with the exchange rate at which the work is quoted."""

    evaluation: Evaluation
    btc_price: BtcPrice


class Completion(msgspec.Struct, frozen=True):
    """A model's whole answer and its tokens; `usage` is None when the provider's figures were unreadable.

    `given_bytes` is then the size of all that was given, with thoughts beside the text.
    """

    text: str
    model: str
    usage: Usage | None
    stop_reason: str
    reported: ReportedUsage | None = None
    given_bytes: int = 0


class Held(Reply, frozen=True, tag="held"):
    """The first reply to a request: its highest cost is on hold, and from now on only the model's call can fail.

    `max_tokens`: as many as the balance covers, at most those asked for; `at_ms`: the time of the hold.
    """

    max_tokens: int
    at_ms: int


class TextDelta(Reply, frozen=True, tag="text_delta"):
    """The next piece of a streamed answer."""

    text: str


class UsageSoFar(msgspec.Struct, frozen=True):
    """The provider's count before the end of a streamed answer.

    `final`: the count covers the whole answer. `pauses`: a block has ended, and no other has begun.
    """

    usage: Usage
    final: bool = False
    pauses: bool = False
    reported: ReportedUsage | None = None


class Served(msgspec.Struct, frozen=True):
    """The upstream that serves a call, by its name in the catalogue: told before the first part of its answer."""

    upstream: str


StreamPart = Served | ReportedUsage | TextDelta | UsageSoFar | Completion
"""Part of a streamed answer; exactly one `Completion`, with the whole text, ends it.

A `ReportedUsage` tells the provider's id of the call before there are any figures.
"""


class Ending(StrEnum):
    """Endings of a session's request."""

    COMPLETE = "complete"
    REJECTED = "rejected"
    BROKEN = "broken"
    """The model failed after it had given something."""
    LEFT = "left"
    """The client went away, and the model was stopped."""


class Step(StrEnum):
    """The model calls of a session's request."""

    EVALUATION = "evaluation"
    WORK = "work"


class Unanswered(msgspec.Struct, frozen=True):
    """A model call whose client left before any of the answer had come: its prompt is billed.

    `prompt_tokens` is the provider's count of the prompt; None where the provider gave none.
    """

    step: Step
    prompt_tokens: int | None


class RequestOutcome(msgspec.Struct, frozen=True):
    """The outcome of a session's request.

    Without a completion the model gave nothing; a call that was then under way at the provider is `unanswered`.
    `declined`: the evaluation accepted the request, and the model refused it without any output.
    """

    ending: Ending
    evaluation: Evaluation | None
    completion: Completion | None = None
    unanswered: Unanswered | None = None
    declined: bool = False


def cut_off(
    text: str, model: str, seen: UsageSoFar | None, stop_reason: str, text_tokens: int | None = None
) -> Completion:
    """Return the completion of an answer that was cut off. `text_tokens`: a separate count of its text by the provider.

    Without a final count in `seen` and without `text_tokens`, the answer's tokens are estimated. Where nothing was
    seen, the prompt's cost is not known, and so there is no usage.
    """
    if seen is None:
        return Completion(text, model, None, stop_reason)
    usage = seen.usage
    if not seen.final:
        given_tokens = estimated_tokens(text, model) if text_tokens is None else text_tokens
        usage = msgspec.structs.replace(usage, output_tokens=max(usage.output_tokens, given_tokens))
    return Completion(text, model, usage, stop_reason, seen.reported)
