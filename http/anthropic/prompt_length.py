"""Prompts that are too long for what a balance or a credential covers, in the words by which programs shorten them."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.domain.money import Msat
from ...actors.domain.session.messages import Relay
from ...actors.domain.session.pricing import SessionTerms, longest_prompt
from ...actors.domain.session.requests import wanted
from .token_counts import bound_of, prompt_too_long

# A summary leaves less than half of a conversation. Where more has to go, a person has to pay: a program would shorten
# its conversation again and again, and pay for each summary.
_SHORTENED: Final = 2
# What is left for a request, by the refusal that says so.
_LEFT: Final = {Code.INSUFFICIENT_BALANCE: "balanceMsat", Code.CAVEAT_VIOLATED: "leftMsat"}


class CountedRefusalError(RefusedError):
    """The refusal of a call whose prompt has `tokens`, by the provider's count."""

    def __init__(self, refusal: Refusal, tokens: int) -> None:
        super().__init__(refusal)
        self.tokens = tokens


def too_long(terms: SessionTerms, command: Relay, tokens: int, refusal: Refusal) -> RefusedError | None:
    """Return the refusal of a prompt of so many tokens; None where its length is not what is wrong.

    The refusal keeps what the other one says of amounts and invoices, as paying is the other way out.
    """
    left = refusal.details.get(_LEFT.get(refusal.code, ""))
    if left is None:
        return None
    most = longest_prompt(terms, command, wanted(terms, command).least_tokens, Msat(left), tokens, bound_of)
    if most >= tokens or most * _SHORTENED < tokens:
        return None
    return prompt_too_long(tokens, most, refusal)
