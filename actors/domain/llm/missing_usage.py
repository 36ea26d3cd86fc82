"""Charge for an answer whose usage is missing, by its model's rule."""

from __future__ import annotations

from msgspec.structs import replace

from ..pricing import MissingUsage, Usage
from .answers import Ending


def usage_in_place(
    rule: MissingUsage | None, ending: Ending, *, bound: Usage | None, given_bytes: int, estimate: Usage
) -> Usage | None:
    """Return the usage that is charged in place of a missing one; None takes nothing.

    `bound` is the worst case that was held, `given_bytes` the size of all that was given. A token has at least a byte,
    so that the bytes bound the answer as they bound the prompt. The rules are for answers that came to their end: one
    that its client left or that broke off has no usage by nature, and costs an estimate of what was used until then. A
    client must not get an answer for nothing by leaving it before its last line.
    """
    if rule is None or ending is Ending.LEFT:
        return estimate
    if rule is MissingUsage.NOTHING:
        return None
    if ending is Ending.BROKEN or bound is None:
        return estimate
    if rule is MissingUsage.BOUND:
        return bound
    return replace(bound, output_tokens=min(bound.output_tokens, given_bytes))
