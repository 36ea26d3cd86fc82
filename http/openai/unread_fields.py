"""Fields of a chat completion request that have no effect: they are reported, as a client may rely on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import inspect

from . import request_schema as wire

# Values that mean the same as leaving the field out.
_NOTHING: Final[Collection[Any]] = (None, False, 0, "", [], {})
_DEFAULTS: Final[Mapping[str, Collection[Any]]] = {
    "modalities": (["text"],),
    "n": (1,),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "messages[].content[].image_url.detail": ("auto",),
    "response_format.json_schema.strict": (True,),
}
# Fields that change no answer.
_HARMLESS: Final = frozenset({"messages[].tool_calls[].index", "response_format.json_schema.name"})
# The names are sent in a header, which does not allow every character.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REQUEST: Final = inspect.type_info(wire.ChatRequest)


def unread(raw: Mapping[str, Any]) -> list[str]:
    """Return the fields without an effect, outermost first: `seed`, `messages[].foo`, `tools[].zip`, each once."""
    found = dict.fromkeys(_unread(raw, _REQUEST, ""))
    return sorted(found, key=lambda path: "." in path or "[" in path)


def _unread(value: Any, kind: inspect.Type, path: str) -> Iterator[str]:
    kinds = list(_alternatives(kind))
    if isinstance(value, list):
        for items in (found.item_type for found in kinds if isinstance(found, inspect.ListType)):
            for entry in value:
                yield from _unread(entry, items, f"{path}[]")
    elif isinstance(value, dict):
        struct = next((found for found in kinds if _fits(found, value)), None)
        if isinstance(struct, inspect.StructType):
            yield from _unread_fields(value, struct, path)


def _unread_fields(value: Mapping[str, Any], struct: inspect.StructType, path: str) -> Iterator[str]:
    fields = {field.encode_name: field.type for field in struct.fields}
    for name, inner in value.items():
        where = f"{path}.{name}".lstrip(".")
        if name in fields:
            yield from _unread(inner, fields[name], where)
        elif name != struct.tag_field and _NAME.fullmatch(name) and _asks(inner, where):
            yield where


def _asks(value: Any, path: str) -> bool:
    return path not in _HARMLESS and value not in _NOTHING and value not in _DEFAULTS.get(path, ())


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _alternatives(one)
    elif isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    else:
        yield kind


def _fits(kind: inspect.Type, value: Mapping[str, Any]) -> bool:
    if not isinstance(kind, inspect.StructType):
        return False
    return kind.tag_field is None or value.get(kind.tag_field) == kind.tag
