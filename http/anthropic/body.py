"""Reader of Anthropic's Messages API bodies, for only the fields that the server needs. The bytes stay unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # there, but not in the stubs
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from ...actors.domain.errors import RefusedError, model_not_found
from ...actors.domain.llm.relays import PromptRate, RelayBody
from ...actors.domain.pricing import ModelPrice
from ..response.errors import invalid
from .costs import Prompt, look_for_costs

# No model writes more. The provider enforces its own, lower bound.
_MAX_TOKENS_MAX: Final = 10_000_000
# The least room after the thinking in which an answer is of use.
_AFTER_THOUGHT_TOKENS: Final = 64
_DATED: Final = re.compile(r"-(?:\d{8}|latest)$")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_ROLES: Final = ("user", "assistant", "system")


class MessagesCall(msgspec.Struct, frozen=True):
    """A call of the Messages API. `model` is the one whose price counts.

    `prompt_tokens_max` bounds the prompt by its bytes; None when they don't bound it and it has to be counted.
    """

    model: str
    body: RelayBody
    stream: bool
    prompt_tokens_max: int | None
    prompt_rate: PromptRate
    least_tokens: int
    billed_as: tuple[str, ...] = ()


class _Member(NamedTuple):
    value: Any
    start: int
    end: int


def read_call(data: bytes, models: Mapping[str, Any]) -> MessagesCall:
    """Return the call in a body; `models` are those that have a price. Raises `RefusedError` (400), naming the field.

    Features whose extra cost can't be known in advance are refused, too (see `llm_costs`).
    """
    text, members = _read(data)
    values = {name: member.value for name, member in members.items()}
    model = priced_as(values.get("model"), models)
    found = members.get("max_tokens")
    if found is None:
        raise invalid("max_tokens", "This field is required")
    max_tokens = _max_tokens(found.value)
    prompt = _look(values, len(data), models[model])
    return MessagesCall(
        model=model,
        body=RelayBody(data, max_tokens, _offset(text, found.start), _offset(text, found.end)),
        stream=_stream(values.get("stream")),
        prompt_tokens_max=prompt.tokens_max,
        prompt_rate=prompt.rate,
        least_tokens=_least(values.get("thinking"), max_tokens),
        billed_as=prompt.billed_as,
    )


def read_count(data: bytes, models: Mapping[str, Any]) -> None:
    """Check the body of a count like that of a call. Raises `RefusedError` (400)."""
    _, members = _read(data)
    values = {name: member.value for name, member in members.items()}
    model = priced_as(values.get("model"), models)
    _look(values, len(data), models[model])


def priced_as(model: Any, models: Mapping[str, Any]) -> str:
    """Return the priced model: this one, or the one of which it is a dated version. Raises `RefusedError`."""
    if not isinstance(model, str):
        raise invalid("model", "This field is required" if model is None else "Must be the name of a model")
    for name in (model, _DATED.sub("", model)):
        if name in models:
            return name
    raise RefusedError(model_not_found("/v1/models"))


def _look(values: Mapping[str, Any], size_bytes: int, price: Any) -> Prompt:
    messages = values.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "At least one message is required")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise invalid(f"messages.{place}.role", "Must be user, assistant or system")
    return look_for_costs(values, size_bytes, price.multipliers if isinstance(price, ModelPrice) else ())


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


# JSON, with the offsets of the outermost members


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a duplicate name: the provider might read the other value than this server."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise invalid("", "A name appears twice in one JSON object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _read(data: bytes) -> tuple[str, dict[str, _Member]]:
    if not data:
        raise invalid("", "The body is empty; send a JSON object")
    try:
        text = data.decode()
        return text, _members(text)
    except RefusedError:
        raise
    except (ValueError, IndexError, StopIteration, RecursionError):
        # The decoder's own error may quote the body.
        raise invalid("", "The body is not a JSON object") from None


def _members(text: str) -> dict[str, _Member]:
    """Return the outermost members.

    Raises `ValueError`, `IndexError`, `StopIteration`, `RecursionError` or `RefusedError`.
    """
    found: dict[str, _Member] = {}
    at = _after(text, _skip(text, 0), "{")
    while True:
        if text[at] == "}" and not found:
            break
        name, at = scanstring(text, _after(text, at, '"', blank=False), True)
        start = _after(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        if name in found:
            raise invalid("", "A name appears twice in one JSON object")
        found[name] = _Member(value, start, end)
        at = _skip(text, end)
        if text[at] == "}":
            break
        at = _after(text, at, ",")
    if _skip(text, at + 1) != len(text):
        raise ValueError
    return found


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _after(text: str, at: int, wanted: str, *, blank: bool = True) -> int:
    if text[at] != wanted:
        raise ValueError
    return _skip(text, at + 1) if blank else at + 1


def _offset(text: str, at: int) -> int:
    return len(text[:at].encode())
