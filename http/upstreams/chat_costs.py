"""Cost bounds of a chat completions body beyond its bytes; fields without a bound are refused by name.

Bytes bound the tokens of text. They don't bound an image or a file, whose tokens the model's context bounds. Sources:
OpenAI's reference, and those of vLLM, llama.cpp, OpenRouter, Groq and xAI for fields of their own. Unknown fields pass.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv6Network, ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ...actors.domain.llm.catalogue import ModelEntry
from ...actors.domain.llm.relays import PromptRate
from ..response.errors import invalid
from .letter_case import check_case

# A chat template adds words that no request shows, most of them about tools.
_UNSEEN_TOKENS: Final = 2_000
_CHOICES_MAX: Final = 128
# Llama's templates indent tools by four spaces for each level.
_TOOL_DEPTH_MAX: Final = 60

_SEARCH: Final = "Search by the provider has a price of its own: leave it out, or search with a tool of your own"
_OTHERS: Final = "Other models and providers have prices of their own: leave it out"
_REMEMBERED: Final = "Nothing is remembered here: send the whole conversation as messages"
_AT_ONCE: Final = "Answers are given at once here: leave it out, and stream what takes long"
_GATEWAYS: Final = "What a gateway would lay over the call can't be priced here: leave it out"
_LENGTH: Final = "The length of an answer is named by max_tokens here, and their number by n"
_TEMPLATE: Final = "With a template of the request's, its length can't be known: leave it out"
# Values that mean the same as leaving the field out.
_NOTHING: Final[Collection[Any]] = (None, False, 0, "", [], {})
_NOT_HERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("api_base", "api_key", "base_url", "custom_llm_provider", "mock_response"), _GATEWAYS),
    **dict.fromkeys(("extra_body", "extra_headers", "extra_query", "max_retries", "num_retries"), _GATEWAYS),
    **dict.fromkeys(("content_policy_fallbacks", "context_window_fallback_dict", "model_list"), _OTHERS),
    "audio": "Audio is not offered: leave it out",
    "background": _AT_ONCE,
    "best_of": _LENGTH,
    "chat_template": _TEMPLATE,
    "context_window_fallbacks": _OTHERS,
    "conversation": _REMEMBERED,
    "deferred": _AT_ONCE,
    "enable_search": _SEARCH,
    "fallbacks": _OTHERS,
    "kv_transfer_params": "Caches of other servers are not possible here: leave it out",
    "models": _OTHERS,
    "moderation": "Moderation is not offered: leave it out",
    "n_cmpl": _LENGTH,
    "n_predict": _LENGTH,
    "num_predict": _LENGTH,
    "plugins": _SEARCH,
    "prediction": "Predicted tokens are billed beyond the limit of the answer: leave it out",
    "previous_response_id": _REMEMBERED,
    "priority": "Calls are served in the order in which they come",
    "provider": _OTHERS,
    "route": _OTHERS,
    "search_parameters": _SEARCH,
    "search_settings": _SEARCH,
    "web_search_options": _SEARCH,
}
# Names that are read here, beside those that must not be there.
_READ: Final = frozenset(
    {*_NOT_HERE, "chat_template_kwargs", "max_completion_tokens", "max_tokens", "messages", "modalities", "model", "n"}
    | {"prompt_cache_retention", "service_tier", "stream", "stream_options", "tools"}
)
_TIERS: Final = (None, "auto", "default")
_TOOLS: Final = (None, "function", "custom")
_TEXTS: Final = frozenset({"text", "refusal", "thinking", "reasoning"})
_AUDIO: Final = frozenset({"input_audio", "audio", "audio_url"})
_MEDIA: Final = ("image_url", "video_url")
_FILES: Final = "There are no uploaded files here: send the file itself as file_data"
_MARKS: Final = ("cache_control", "prompt_cache_breakpoint", "prompt_cache_options")
# Domains of private networks.
_PRIVATE: Final = frozenset({"local", "localhost", "internal", "intranet", "lan", "home", "corp", "arpa"})
_SHORT_LIVES: Final = (None, "5m", "30m")
_MESSAGE: Final = frozenset({"role", "content", "audio"})
_PART: Final = frozenset({"type", "text", "file", *_AUDIO, *_MEDIA})
_FILE: Final = frozenset({"file_data", "file_id"})
# Without a user, whose end is read in two ways, and without signs that one reader takes for a part and another skips.
_ADDRESS: Final = re.compile(r"https?://[a-z0-9.:\[\]-]+(?:[/?#][!-\[\]-~]*)?", re.IGNORECASE)
# Addresses of version 6 that stand for one of version 4.
_INNER: Final = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "2002::/16")))


class ChatBound(NamedTuple):
    """Upper bound of a prompt's tokens, and its dearest rate."""

    tokens: int
    rate: PromptRate


def bound_of_chat(values: Mapping[str, Any], size_bytes: int, entry: ModelEntry) -> ChatBound:
    """Return the cost bound of a body of `size_bytes`. Raises `RefusedError` (400) that names an unsupported field."""
    check_case(values, _READ)
    for name, why in _NOT_HERE.items():
        if values.get(name) not in _NOTHING:
            raise invalid(name, why)
    arguments = values.get("chat_template_kwargs")
    if isinstance(arguments, dict) and arguments.get("chat_template") is not None:
        # vLLM before 0.11.1 lets it take the place of the model's own.
        raise invalid("chat_template_kwargs.chat_template", _TEMPLATE)
    if values.get("modalities") not in (None, [], ["text"]):
        raise invalid("modalities", "Only text is offered")
    if values.get("service_tier") not in _TIERS:
        raise invalid("service_tier", "Has a price of its own that is not known here; possible is auto or default")
    for place, tool in enumerate(_objects(values.get("tools"), "tools")):
        if tool.get("type") not in _TOOLS:
            raise invalid(f"tools[{place}].type", "Tools that the provider runs, at a price of their own, are not here")
        if _is_deep(tool):
            raise invalid(f"tools[{place}]", "Nested too deeply")
    tokens = size_bytes + _UNSEEN_TOKENS
    media = _media(values.get("messages"))
    if entry.context_tokens is not None:
        # No prompt is longer, whatever is in it.
        tokens = entry.context_tokens if media else min(tokens, entry.context_tokens)
    elif media:
        raise invalid(media[0], "What it costs can't be known here: the model's longest prompt is not")
    return ChatBound(tokens, _dearest(values))


def _is_deep(tool: Mapping[str, Any]) -> bool:
    """Return whether a template that indents a tool would make far more of it than its bytes."""
    level: list[Any] = [tool]
    for _ in range(_TOOL_DEPTH_MAX):
        level = [inner for value in level for inner in _members(value)]
        if not level:
            return False
    return True


def _members(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def choices_of(values: Mapping[str, Any]) -> int:
    """Return the number of answers. Raises `RefusedError` (400)."""
    count = values.get("n")
    if count is None:
        return 1
    if type(count) is not int or not 1 <= count <= _CHOICES_MAX:
        raise invalid("n", f"Must be a whole number from 1 to {_CHOICES_MAX}")
    return count


def check_address(url: Any, path: str) -> None:
    """Refuse a URL that the upstream might fetch from the operator's own network. Data URLs pass.

    Raises `RefusedError` (400).
    """
    if not isinstance(url, str):
        raise invalid(path, "Must be a URL")
    if url[:5].lower() == "data:":
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise invalid(path, "Must be a URL") from None
    if not _ADDRESS.fullmatch(url) or parts.scheme not in ("http", "https") or not _is_public(host):
        raise invalid(path, "Must be a data URL, or an address that is public")


def _is_public(host: str) -> bool:
    try:
        address = ip_address(host)
        return address.is_global and not address.is_multicast and not any(address in inner for inner in _INNER)
    except ValueError:
        pass
    name = host.rstrip(".").lower()
    # Numbers in other notations, such as 0x7f000001, are addresses to many programs. A domain ends in letters.
    last = name.rpartition(".")[2]
    return "." in name and name.isascii() and (last.isalpha() or last[:4] == "xn--") and last not in _PRIVATE


def _media(messages: Any) -> list[str]:
    """Return the paths of what bytes don't bound. Raises `RefusedError` (400)."""
    found: list[str] = []
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "At least one message is required")
    for place, message in enumerate(_objects(messages, "messages")):
        path = f"messages[{place}]"
        check_case(message, _MESSAGE, path)
        if message.get("audio") is not None:
            raise invalid(f"{path}.audio", "Audio is not offered: leave it out")
        content = message.get("content")
        if isinstance(content, list):
            for number, part in enumerate(_objects(content, f"{path}.content")):
                found += _part(part, f"{path}.content[{number}]")
    return found


def _part(part: Mapping[str, Any], path: str) -> Iterator[str]:
    check_case(part, _PART, path)
    kind = part.get("type")
    if isinstance(kind, str) and kind in _AUDIO:
        raise invalid(f"{path}.type", "Audio is not accepted: send a transcript as text")
    if kind in _MEDIA:
        value = part.get(kind)
        if isinstance(value, dict):
            check_case(value, ("url",), f"{path}.{kind}")
            value = value.get("url")
        check_address(value, f"{path}.{kind}.url")
        yield f"{path}.{kind}"
    elif kind == "file":
        file = part.get("file")
        if not isinstance(file, dict) or file.get("file_id") is not None:
            raise invalid(f"{path}.file.file_id", _FILES)
        check_case(file, _FILE, f"{path}.file")
        data = file.get("file_data")
        if isinstance(data, str) and data[:5].lower() != "data:" and ":" in data:
            # Base64 has no colon.
            check_address(data, f"{path}.file.file_data")
        yield f"{path}.file"
    elif not isinstance(kind, str) or kind not in _TEXTS:
        raise invalid(f"{path}.type", "There is no such part, or its price is not known here")


def _dearest(values: Mapping[str, Any]) -> PromptRate:
    """Return the highest rate of a prompt. An upstream may write any prompt to its cache, and bill that."""
    if values.get("prompt_cache_retention") not in (None, "in_memory"):
        return PromptRate.CACHE_WRITE_1H
    if set(_lives(values)) <= set(_SHORT_LIVES):
        return PromptRate.CACHE_WRITE_5M
    return PromptRate.CACHE_WRITE_1H


def _lives(value: Any) -> Iterator[str | None]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for mark in (value.get(name) for name in _MARKS):
                if isinstance(mark, dict):
                    ttl = mark.get("ttl")
                    yield ttl if isinstance(ttl, str) else None
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _objects(value: Any, path: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise invalid(path, "Must be a list of objects")
    return value
