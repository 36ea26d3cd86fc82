"""`satmeter receipt verify`: checks of a receipt's tokens against the provider's own usage objects in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ...actors.adapters.anthropic.relay import RelayedStream, whole_end
from ...actors.adapters.openai.relay import read_whole
from ...actors.adapters.openai.stream import ChatStream
from ...actors.domain.llm.answers import Ending
from ...actors.domain.llm.catalogue import Api
from ...actors.domain.llm.reported_usage import ReportedUsage, provider_id, reading_of
from ...actors.domain.pricing import Usage
from ...actors.port_errors import PortError
from .answer_apis import API_NAMES, api_of, is_whole
from .quote import MismatchError

Json = dict[str, Any]
_WORK_ALONE: Final = ["work"]


class _Provider(msgspec.Struct, rename="camel"):
    request_id: str | None = None
    first_usage: str | None = None
    usage: tuple[str, ...] = ()
    partial: bool = False
    cut: bool = False
    api: Api = Api.ANTHROPIC
    missing: bool = False

    @property
    def reported(self) -> ReportedUsage:
        # The id is shown: what is not one could move the cursor of a terminal.
        shown_id = provider_id({"request-id": self.request_id or ""})
        return ReportedUsage(
            shown_id, self.first_usage, self.usage, self.partial, self.cut, api=self.api, missing=self.missing
        )


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
    provider = _relayed(receipt)
    if provider is None:
        return
    reported = msgspec.structs.replace(provider.reported, provider_id=None)
    if provider.api is Api.OPENAI:
        found = list(_chat_reports(answer, ended=receipt.get("state") == Ending.COMPLETE))
    else:
        found = [_reported_in(answer)]
    if reported not in found:
        raise MismatchError("The usage in the receipt is not the one in the provider's answer.")


def why_another(receipt: Json, answer: bytes) -> str | None:
    """Return what can't be checked of an answer that has not the receipt's digest, if the server changed it.

    None where nothing says that it did.
    """
    provider, api = _relayed(receipt), api_of(answer)
    if provider is None or api is None:
        return None
    if api != provider.api:
        return (
            f"The answer is one of {API_NAMES[api]}, and the upstream speaks {API_NAMES[provider.api]}: the server "
            "translated it. The receipt's digest is of the upstream's bytes, which you were not given, so that neither "
            "this answer nor its usage can be checked. Without --answer the signature, the price and the tokens can."
        )
    if api == Api.OPENAI and not answer.lstrip().startswith(b"{"):
        return (
            "The receipt is of another answer, or of this one with a chunk that you were not given: the usage at the "
            "end of a stream comes only to a client that asks for it (stream_options.include_usage)."
        )
    return None


def _relayed(receipt: Json) -> _Provider | None:
    """Return the report in the receipt of a relayed call; None in any other."""
    charges = _charges(receipt)
    if receipt.get("sessionId") is None or [charge.step for charge in charges] != _WORK_ALONE:
        return None
    return charges[0].provider


def _chat_reports(answer: bytes, *, ended: bool) -> Iterator[ReportedUsage]:
    """Yield the possible reports of a chat completion: a stream may have been left before its last line was whole."""
    if is_whole(answer):
        try:
            yield read_whole({}, answer).reported
        except PortError:
            return
        return
    stream = ChatStream()
    stream.read(answer)
    yield stream.reported(ended=ended)
    stream.at_end()
    yield stream.reported(ended=ended)


def _check(charge: _Charge) -> str:
    step, provider = charge.step, charge.provider
    if provider is None:
        return f"The tokens of the {step} are the server's word: the receipt has no usage of the provider."
    reported = provider.reported
    source = "the provider's usage" + (f" of its request {reported.provider_id}" if reported.provider_id else "")
    if reported.cut:
        return f"The tokens of the {step} are the server's word: {source} was too large for a receipt."
    if reported.missing:
        return f"The tokens of the {step} are charged in place of counted ones: {source} lacks some."
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


def _reported_in(answer: bytes) -> ReportedUsage:
    if not is_whole(answer):
        stream = RelayedStream()
        stream.read(answer)
        return stream.reported()
    reported = whole_end(200, {}, answer).reported
    assert reported is not None
    return reported
