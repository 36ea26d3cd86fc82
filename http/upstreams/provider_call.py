"""Calls for an upstream, whichever API it speaks: their bodies, and the bounds of their cost."""

from __future__ import annotations

import msgspec

from ...actors.domain.llm.catalogue import Api
from ...actors.domain.llm.relays import PromptRate, RelayBody


class UnreadableAnswerError(Exception):
    """An upstream's answer that is not one of the API that it speaks."""


class ProviderCall(msgspec.Struct, frozen=True):
    """A call for an upstream, in the API that it speaks. `model` is the one whose price counts.

    `prompt_tokens_max` bounds the prompt by its bytes; None when they don't bound it and it has to be counted.
    `least_tokens`: a smaller limit of the answer makes the call useless. `billed_as`: options with a price of their
    own. `api` is the one that the body is written in. `web_searches`: the most that the provider may make.
    """

    model: str
    body: RelayBody
    stream: bool
    prompt_tokens_max: int | None
    prompt_rate: PromptRate = PromptRate.INPUT
    least_tokens: int = 0
    billed_as: tuple[str, ...] = ()
    api: Api = Api.ANTHROPIC
    web_searches: int = 0
