"""`satmeter receipt verify`: checks of a receipt's tokens against the provider's own usage objects in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ...actors.adapters.anthropic.relay import RelayedStream, whole_end
from ...actors.adapters.openai.relay import read_whole, reported_in
from ...actors.adapters.openai.stream import ChatStream
from ...actors.domain.llm.reported_usage import ReportedUsage, provider_id, reading_of
from ...actors.domain.pricing import Usage
from ...actors.port_errors import PortError
from .quote import MismatchError

Json = dict[str, Any]
_WORK_ALONE: Final = ["work"]


class _Provider(msgspec.Struct, rename="camel"):
    request_id: str | None = None
    first_usage: str | None = None
    usage: tuple[str, ...] = ()
    partial: bool = False
    cut: bool = False
    missing: bool = False

    @property
    def reported(self) -> ReportedUsage:
        # The id is shown: what is not one could move the cursor of a terminal.
        shown_id = provider_id({"request-id": self.request_id or ""})
        return ReportedUsage(shown_id, self.first_usage, self.usage, self.partial, self.cut, missing=self.missing)


class _Charge(msgspec.Struct, rename="camel"):
    step: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int = msgspec.field(name="cacheWrite5mTokens")
    cache_write_1h_tokens: int = msgspec.field(name="cacheWrite1hTokens")
    provider: _Provider | None = None
    web_searches: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_5m_tokens,
            self.cache_write_1h_tokens,
            web_searches=self.web_searches,
        )


def check_usage(receipt: Json) -> Sequence[str]:
    """Check each charge's tokens against the provider's usage in it, and return a sentence for each charge.

    Raises `MismatchError`.
    """
    return [_check(charge) for charge in _charges(receipt)]


def check_answer(receipt: Json, answer: bytes) -> None:
    """Check that the usage in the receipt of a relayed call is the one in the provider's answer.

    `answer` is the text of the receipt's digest. Answers to other requests hold no usage. Raises `MismatchError`.
    """
    charges = _charges(receipt)
    if receipt.get("sessionId") is None or [charge.step for charge in charges] != _WORK_ALONE:
        return
    provider = charges[0].provider
    if provider is None:
        return
    reported = provider.reported
    if msgspec.structs.replace(reported, provider_id=None) != _reported_in(answer, receipt.get("state") == "complete"):
        raise MismatchError("The usage in the receipt is not the one in the provider's answer.")


def _check(charge: _Charge) -> str:
    step, provider = charge.step, charge.provider
    if provider is None:
        return f"The tokens of the {step} are the server's word: the receipt has no usage of the provider."
    reported = provider.reported
    source = "the provider's usage" + (f" of its request {reported.provider_id}" if reported.provider_id else "")
    if reported.cut:
        return f"The tokens of the {step} are the server's word: {source} was too large for a receipt."
    found = reading_of(reported)
    if found is None:
        return f"The tokens of the {step} are counted apart or estimated: {source} does not have the figures."
    billed = charge.usage
    if not _follows(billed, found, partial=reported.partial):
        raise MismatchError(f"The tokens of the {step} are not those of {source}.")
    if billed.output_tokens > found.output_tokens:
        estimated = billed.output_tokens - found.output_tokens
        return f"The tokens of the {step} are those of {source}, and {estimated} of its answer that are not in it."
    return f"The tokens of the {step} are those of {source}."


def _follows(billed: Usage, found: Usage, *, partial: bool) -> bool:
    """Return whether these tokens were billed by these figures, which of a partial count are a lower bound."""
    # Searches beyond those that the call allows are not charged.
    searches = min(billed.web_searches, found.web_searches)
    prompt = msgspec.structs.replace(found, output_tokens=billed.output_tokens, billed_as=(), web_searches=searches)
    if billed != prompt:
        return False
    return billed.output_tokens == found.output_tokens or (partial and billed.output_tokens > found.output_tokens)


def _charges(receipt: Json) -> list[_Charge]:
    try:
        # Fractions in a receipt are decimals, which no figure of a usage is.
        return msgspec.convert(receipt.get("charges"), list[_Charge])
    except msgspec.ValidationError:
        raise MismatchError("The receipt lacks figures of its usage.") from None


def _reported_in(answer: bytes, complete: bool) -> ReportedUsage | None:
    """Return the report in the bytes of an answer, whole or streamed, of either API; None where there is none."""
    try:
        whole = json.loads(answer)
    except (ValueError, RecursionError):
        return _reported_in_stream(answer, complete)
    if not isinstance(whole, dict):
        return None
    if "choices" not in whole:
        return whole_end(200, {}, answer).reported
    try:
        return reported_in(answer, {}, read_whole(answer).usage)
    except PortError:
        return None


def _reported_in_stream(answer: bytes, complete: bool) -> ReportedUsage:
    messages = RelayedStream()
    messages.read(answer)
    if messages.begun:
        return messages.reported()
    chat = ChatStream()
    chat.read(answer)
    chat.at_end()
    return chat.reported(chat.counted.whole() if complete else chat.counted.usage())
