"""Reader of Anthropic's Messages API bodies, for only the fields that the server needs. The bytes stay unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ...actors.domain.llm.catalogue import ModelEntry
from ...actors.domain.llm.relays import RelayBody
from ..response.errors import invalid
from ..upstreams.body_edits import BodyEdits
from ..upstreams.json_members import byte_offset, read_members
from ..upstreams.letter_case import check_case
from ..upstreams.provider_call import ProviderCall
from ..upstreams.served_models import ServedModels
from .costs import NAMES, Prompt, look_for_costs

# No model writes more. The provider enforces its own, lower bound.
_MAX_TOKENS_MAX: Final = 10_000_000
# The least room after the thinking in which an answer is of use.
_AFTER_THOUGHT_TOKENS: Final = 64
_ROLES: Final = ("user", "assistant", "system")


def read_call(data: bytes, models: ServedModels) -> ProviderCall:
    """Return the call in a body. Raises `RefusedError` (400), naming the field.

    Features whose extra cost can't be known in advance are refused, too (see `costs`). A limit of the answer above the
    model's own is lowered to it.
    """
    text, members = read_members(data)
    values = {name: member.value for name, member in members.items()}
    entry = models.named(values.get("model"))
    found = members.get("max_tokens")
    if found is None:
        raise invalid("max_tokens", "This field is required")
    max_tokens = _at_most(_max_tokens(found.value), entry.max_output_tokens)
    prompt = _look(values, len(data), entry)
    body = RelayBody(data, max_tokens, byte_offset(text, found.start), byte_offset(text, found.end))
    sent = entry.sent_as(values["model"])
    if sent != values["model"] or max_tokens != found.value:
        edits = BodyEdits(text, members)
        edits.set("model", sent)
        body = edits.finished("max_tokens", max_tokens)
    return ProviderCall(
        model=entry.name,
        body=body,
        stream=_stream(values.get("stream")),
        # A prompt beyond the model's context is refused upstream, and costs nothing.
        prompt_tokens_max=None if prompt.tokens_max is None else _at_most(prompt.tokens_max, entry.context_tokens),
        prompt_rate=prompt.rate,
        least_tokens=_least(values.get("thinking"), max_tokens),
        billed_as=prompt.billed_as,
        web_searches=prompt.web_searches,
    )


class Counting(NamedTuple):
    """A body whose prompt is to be counted, as the provider takes it, and the model whose price would count."""

    model: str
    body: bytes


def read_count(data: bytes, models: ServedModels) -> Counting:
    """Check the body of a count like that of a call. Raises `RefusedError` (400)."""
    text, members = read_members(data)
    values = {name: member.value for name, member in members.items()}
    entry = models.named(values.get("model"))
    _look(values, len(data), entry)
    sent, found = entry.sent_as(values["model"]), members["model"]
    if sent != values["model"]:
        data = b"%b%b%b" % (text[: found.start].encode(), msgspec.json.encode(sent), text[found.end :].encode())
    return Counting(entry.name, data)


def _look(values: Mapping[str, Any], size_bytes: int, entry: ModelEntry) -> Prompt:
    check_case(values, NAMES)
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "At least one message is required")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise invalid(f"messages.{place}.role", "Must be user, assistant or system")
    price = entry.price
    return look_for_costs(values, size_bytes, price.multipliers, searches=price.web_search_per_1000 is not None)


def _at_most(tokens: int, limit: int | None) -> int:
    return tokens if limit is None else min(tokens, limit)


def _max_tokens(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_TOKENS_MAX:
        raise invalid("max_tokens", f"Must be a whole number from 0 to {_MAX_TOKENS_MAX}")
    return value


def _stream(value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise invalid("stream", "Must be true or false")
    return bool(value)


def _least(thinking: Any, max_tokens: int) -> int:
    """Return the least `max_tokens` for this thinking budget: the provider refuses one that is not above the budget."""
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return 0
    budget = thinking.get("budget_tokens")
    if type(budget) is not int or budget < 1:
        raise invalid("thinking.budget_tokens", "Must be a whole number from 1 on")
    # A budget above `max_tokens` is the provider's to refuse, or to accept where thinking is interleaved.
    return budget + _AFTER_THOUGHT_TOKENS if budget < max_tokens else 0
