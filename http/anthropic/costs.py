"""Cost bounds of a Messages API body beyond its bytes; fields without a bound are refused.

Bytes bound the tokens of text. They don't bound an image, a PDF, or what the provider fetches, runs or remembers; and
some fields change the rates. Source: the Messages API's reference and pricing (platform.claude.com, November 2026).
Unknown fields are passed on; `anthropic_relay` notifies the operator if one of them costs extra.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from ...actors.domain.errors import RefusedError
from ...actors.domain.llm.relays import PromptRate
from ...actors.domain.llm.usage import WEB_SEARCHES
from ..response.errors import invalid

# The provider adds tokens that no request shows: its framing, and its own words about tools and schemas.
_UNSEEN_TOKENS: Final = 2_000
# The description of a provider-defined tool is written, and counted, by the provider.
_OWN_TOOL_TOKENS: Final = 5_000
# The provider scales larger images down: none has more than 4,784 tokens.
_IMAGE_TOKENS: Final = 5_000
_DEPTH_MAX: Final = 60

# Fields that change the price, or add tokens that the body's bytes don't bound.
_NOT_HERE: Final[Mapping[str, str]] = {
    "mcp_servers": "Servers that the provider would call are not possible here; call them yourself, as tools",
    "container": "Containers, and skills that run in them, are not possible here",
    "fallbacks": "Fallback models, whose prices are others, are not possible here",
    "fallback_credit_token": "Fallback models, whose prices are others, are not possible here",
    "compaction": "Compaction by the provider is not possible here; have the conversation summarized yourself",
    "thread": "Conversations that the provider remembers are not possible here; send all messages",
    "billing_policy": "It is this server that is billed",
    "user_profile_id": "Profiles are this server's own",
}
_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "speed": ("standard",),
    "service_tier": ("auto", "standard_only"),
    "inference_geo": ("global",),
}
# Names of the outermost members that are read here.
NAMES: Final = frozenset({*_NOT_HERE, *_ALLOWED, "context_management", "max_tokens", "messages", "model"}) | {
    "output_config", "output_format", "stream", "system", "thinking", "tools",
}  # fmt: skip
_NO_SERVER_TOOLS: Final = "Tools that the provider runs, at a price of their own, are not possible here"
_EDITS_ONLY: Final = "Only clear_tool_uses and clear_thinking are possible here"
_EDITS: Final = ("clear_tool_uses_", "clear_thinking_")
# Tools that the client runs, though the provider describes them. All others are run by the provider, at a price.
_CALLERS_TOOLS: Final = ("bash_", "text_editor_", "computer_", "memory_", "browser_toolset_")
_WEB_SEARCHES: Final = "web_search_"
# Later ones run code, which the provider bills by time.
_WEB_SEARCH: Final = "web_search_20250305"
_USES_MAX: Final = 100
_SOURCES: Final = "A document must be sent as base64 or text: what an address or a file holds can't be priced here"
# Blocks whose bytes bound their tokens. Blocks inside a tool's result are checked, too.
_BLOCKS: Final = frozenset(
    {
        "text",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "tool_reference",
        "tool_addition",
        "tool_removal",
        "search_result",
        "compaction",
        "server_tool_use",
        "mcp_tool_use",
        "mcp_tool_result",
        "image",
        "document",
    }
)
_RESULTS: Final = "_tool_result"
# Calls of tools, whose input is any JSON.
_CALLS: Final = "tool_use"
# Fields that hold the client's own JSON, which is not checked.
_CALLERS_JSON: Final = ("input_schema", "input_examples")
_SCHEMAS: Final = ("output_config.format.schema", "output_format.schema")


class Prompt(NamedTuple):
    """The highest cost of a prompt: an upper bound of its tokens, None if it has to be counted, and its highest rate.

    `billed_as`: the names of the multipliers of the rates that the request asks for, and of searches. `web_searches`:
    the most that the provider may make. Their results are not in `tokens_max`.
    """

    tokens_max: int | None
    rate: PromptRate
    billed_as: tuple[str, ...]
    web_searches: int = 0


def look_for_costs(
    values: Mapping[str, Any], size_bytes: int, multipliers: Collection[str], *, searches: bool = False
) -> Prompt:
    """Return the cost bounds of a body of `size_bytes`. Raises `RefusedError` (400) that names an unsupported field.

    `multipliers`: the options beyond the plain rates that have a price, and may be asked for. `searches`: web searches
    have one, too.
    """
    billed_as = _look_at_fields(values, multipliers)
    found = _Found(searches=searches)
    for place, tool in enumerate(_entries(values.get("tools"), "tools")):
        found.tool(tool, f"tools.{place}")
    found.content(values.get("system"), "system", 0)
    for place, message in enumerate(values["messages"]):
        found.content(message.get("content"), f"messages.{place}.content", 0)
        found.members(message, f"messages.{place}", 0, but=("content",))
    found.members(values, "", 0, but=("tools", "system", "messages", "metadata"))
    tokens = size_bytes - found.image_bytes + found.images * _IMAGE_TOKENS
    tokens += found.own_tools * _OWN_TOOL_TOKENS + _UNSEEN_TOKENS
    rate = _dearest(values)
    if found.web_searches:
        billed_as = (*billed_as, WEB_SEARCHES)
        # The provider caches results by itself, to read them again after the next search.
        rate = PromptRate.CACHE_WRITE_5M if rate is PromptRate.INPUT else rate
    return Prompt(None if found.uncounted else tokens, rate, billed_as, found.web_searches)


def _look_at_fields(values: Mapping[str, Any], multipliers: Collection[str]) -> tuple[str, ...]:
    """Return the names of the rate multipliers that a request asks for. Raises `RefusedError` (400)."""
    billed_as: list[str] = []
    for name, why in _NOT_HERE.items():
        if values.get(name) not in (None, [], {}):
            raise _unsupported(name, why)
    for name, allowed in _ALLOWED.items():
        value = values.get(name)
        if value is None or value in allowed:
            continue
        if f"{name}_{value}" not in multipliers or not isinstance(value, str):
            priced = [known.removeprefix(f"{name}_") for known in multipliers if known.startswith(f"{name}_")]
            possible = " or ".join(sorted({*allowed, *priced}))
            raise invalid(name, f"Has a price of its own that is not known here; possible is {possible}")
        billed_as.append(f"{name}_{value}")
    management = values.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    for place, edit in enumerate(_entries(edits, "context_management.edits")):
        if not str(edit.get("type")).startswith(_EDITS):
            raise invalid(f"context_management.edits.{place}.type", _EDITS_ONLY)
    return tuple(billed_as)


def _unsupported(name: str, why: str) -> RefusedError:
    """Return the refusal for a field that is not possible here. Without `thread`, the provider's SDK goes on."""
    error = invalid(name, why)
    if name != "thread":
        return error
    return RefusedError(replace(error.refusal, details={**error.refusal.details, "unsupported": [name]}))


class _Found:
    """The costs found while walking through a prompt.

    Every object and list is checked at any depth: the API nests results in results, and documents in objects that are
    not blocks. Only JSON that belongs to a client's tools is skipped, as the provider reads it as text.
    """

    def __init__(self, *, searches: bool) -> None:
        self._searches = searches
        self.web_searches = 0
        self.images = 0
        self.image_bytes = 0
        self.own_tools = 0
        self.uncounted = False

    def tool(self, tool: Mapping[str, Any], path: str) -> None:
        """Check a tool of either kind. Raises `RefusedError` (400) for one that the provider would run."""
        kind = tool.get("type")
        if kind not in (None, "custom"):
            if isinstance(kind, str) and kind.startswith(_WEB_SEARCHES):
                self._web_search(tool, kind, path)
            elif not isinstance(kind, str) or not kind.startswith(_CALLERS_TOOLS):
                raise invalid(f"{path}.type", _NO_SERVER_TOOLS)
            self.own_tools += 1
        self.members(tool, path, 0, but=_CALLERS_JSON)

    def _web_search(self, tool: Mapping[str, Any], kind: str, path: str) -> None:
        # A tool that is added in the middle of a conversation may be added again and again.
        if not self._searches or not path.startswith("tools."):
            raise invalid(f"{path}.type", _NO_SERVER_TOOLS)
        if kind != _WEB_SEARCH:
            raise invalid(f"{path}.type", f"Of the provider's searches only {_WEB_SEARCH} is possible here")
        uses = tool.get("max_uses")
        if type(uses) is not int or not 1 <= uses <= _USES_MAX:
            raise invalid(f"{path}.max_uses", f"Must be a whole number from 1 to {_USES_MAX}: their price is held")
        self.web_searches += uses

    def content(self, content: Any, path: str, depth: int) -> None:
        """Check a content: text, or blocks. Raises `RefusedError` (400)."""
        if content is None or isinstance(content, str):
            return
        if depth > _DEPTH_MAX:
            raise invalid(path, "Nested too deeply")
        for place, block in enumerate(_entries(content, path)):
            where = f"{path}.{place}"
            kind = block.get("type")
            if not isinstance(kind, str) or not (kind in _BLOCKS or kind.endswith(_RESULTS)):
                raise invalid(f"{where}.type", "There is no such block, or its price is not known here")
            if kind == "image":
                data = _source(block, where).get("data")
                # The bytes of an image are not text. Other data may be text, so it stays in the bound.
                self.image_bytes += len(data) if isinstance(data, str) and data.isascii() else 0
            self._object(block, where, depth + 1)

    def members(self, found: Mapping[str, Any], path: str, depth: int, *, but: Collection[str] = ()) -> None:
        """Check the members of an object, except those named in `but`. Raises `RefusedError` (400)."""
        for name, value in found.items():
            if name not in but:
                self._any(value, f"{path}.{name}".lstrip("."), depth)

    def _any(self, value: Any, path: str, depth: int) -> None:
        if path in _SCHEMAS:
            return
        if depth > _DEPTH_MAX:
            raise invalid(path, "Nested too deeply")
        if isinstance(value, dict):
            self._object(value, path, depth + 1)
        elif isinstance(value, list):
            for place, entry in enumerate(value):
                self._any(entry, f"{path}.{place}", depth + 1)

    def _object(self, block: Mapping[str, Any], path: str, depth: int) -> None:
        kind, content = block.get("type"), block.get("content")
        seen = ["source", "content"]
        if kind == "image":
            self._image(block, path)
        elif kind == "document" or isinstance(block.get("source"), dict):
            self._document(block, path, depth)
        if kind == "tool_addition":
            self._addition(block, path)
        if isinstance(kind, str) and kind.endswith(_CALLS):
            seen.append("input")
        if block.get("file_id") is not None:
            raise invalid(f"{path}.file_id", _SOURCES)
        # Only the provider can read what it has encrypted, so its length in tokens is unknown here.
        self.uncounted |= any(name.startswith("encrypted_") and value for name, value in block.items())
        if isinstance(content, list) and (str(kind) in _BLOCKS or str(kind).endswith(_RESULTS)):
            self.content(content, f"{path}.content", depth)
        else:
            self._any(content, f"{path}.content", depth)
        self.members(block, path, depth, but=seen)

    def _image(self, block: Mapping[str, Any], path: str) -> None:
        match _source(block, path):
            case {"type": "base64", "data": str()}:
                pass
            case {"type": "url", "url": str()}:
                pass  # The provider fetches it, and scales it like any other.
            case _:
                raise invalid(f"{path}.source", "An image must be sent as base64 or by its address here")
        self.images += 1

    def _document(self, block: Mapping[str, Any], path: str, depth: int) -> None:
        source = _source(block, path)
        match source.get("type"):
            case "text":
                return
            case "content":
                self.content(source.get("content"), f"{path}.source.content", depth)
            case "base64":
                self.uncounted = True
            case _:
                raise invalid(f"{path}.source", _SOURCES)

    def _addition(self, block: Mapping[str, Any], path: str) -> None:
        tool = block.get("tool")
        definition = tool.get("definition") if isinstance(tool, dict) else None
        if isinstance(definition, dict):
            self.tool(definition, f"{path}.tool.definition")
        elif definition is not None or (isinstance(tool, dict) and "mcp" in str(tool.get("type"))):
            raise invalid(f"{path}.tool", _NO_SERVER_TOOLS)


def _source(block: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise invalid(f"{path}.source", "Must be an object")
    if source.get("file_id") is not None:
        raise invalid(f"{path}.source", _SOURCES)
    return source


def _entries(value: Any, path: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise invalid(path, "Must be a list of objects")
    return value


def _dearest(values: Mapping[str, Any]) -> PromptRate:
    """Return the highest rate of a prompt: marked blocks are written to the cache, at the rate of their lifetime."""
    lifetimes = set(_lifetimes(values))
    if not lifetimes:
        return PromptRate.INPUT
    return PromptRate.CACHE_WRITE_5M if lifetimes <= {None, "5m"} else PromptRate.CACHE_WRITE_1H


def _lifetimes(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            mark = value.get("cache_control")
            if isinstance(mark, dict):
                ttl = mark.get("ttl")
                yield ttl if isinstance(ttl, str) else None
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
