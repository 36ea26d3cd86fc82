"""Traits of models: which parameters of the Messages API each one takes, for thinking, sampling and effort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class Traits(msgspec.Struct, frozen=True):
    """The parameters that one model takes.

    `least_thinking` is the `thinking` that asks for the least, None where the model has no such value: each model
    refuses the others' values with a 400. `sampling`: whether it takes either `temperature` or `top_p`. `effort`:
    whether it takes `output_config.effort`.
    """

    least_thinking: Mapping[str, str] | None = None
    sampling: bool = False
    effort: bool = True


# Source: Anthropic's guides "What's new in Claude Sonnet 5.5", "Claude Haiku 5.5 migration guide", "Claude Opus 5.5
# migration guide", "Claude Opus 5 migration guide" and "Effort". From Claude Opus 4.7 on, sampling parameters are an
# error in every model. Up to Claude Opus 4.8, a call without `thinking` does not think.
_TRAITS: Final[Mapping[str, Traits]] = {
    # It takes an effort, but not the adaptive thinking that goes with it in all others.
    "claude-opus-4-5": Traits(sampling=True, effort=False),
    "claude-opus-4-6": Traits(sampling=True),
    "claude-sonnet-4-6": Traits(sampling=True),
    "claude-opus-5": Traits({"type": "disabled"}),
    "claude-haiku-4-5": Traits(sampling=True, effort=False),
    "claude-haiku-5-5": Traits({"type": "disabled"}),
    "claude-sonnet-5": Traits({"type": "disabled"}),
    "claude-sonnet-5-5": Traits({"type": "between_tools"}),
    "claude-opus-5-5": Traits(),
}
_NEWER: Final = Traits()


def traits_of(model: str) -> Traits:
    """Return the traits of a model; an operator's addition gets those of the newest models."""
    return _TRAITS.get(model, _NEWER)
