"""Fields of a request that have no effect: they are reported, as a client may rely on them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import inspect

from .request import NOTHING

# The names are sent in a header, which does not allow every character.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class UnreadFields:
    """The fields of a request's type that are read.

    `defaults` are values that change nothing, by the path of their field; `harmless` are paths of fields that change no
    answer.
    """

    def __init__(
        self, request: type[Any], defaults: Mapping[str, Collection[Any]], harmless: Collection[str] = ()
    ) -> None:
        self._request = inspect.type_info(request)
        self._defaults = defaults
        self._harmless = harmless

    def of(self, raw: Mapping[str, Any]) -> list[str]:
        """Return the fields without an effect, outermost first: `seed`, `messages[].foo`, `tools[].zip`, each once."""
        found = dict.fromkeys(self._unread(raw, self._request, ""))
        return sorted(found, key=lambda path: "." in path or "[" in path)

    def _unread(self, value: Any, kind: inspect.Type, path: str) -> Iterator[str]:
        kinds = list(_alternatives(kind))
        if isinstance(value, list):
            for items in (found.item_type for found in kinds if isinstance(found, inspect.ListType)):
                for entry in value:
                    yield from self._unread(entry, items, f"{path}[]")
        elif isinstance(value, dict):
            struct = next((found for found in kinds if _fits(found, value)), None)
            if isinstance(struct, inspect.StructType):
                yield from self._unread_fields(value, struct, path)

    def _unread_fields(self, value: Mapping[str, Any], struct: inspect.StructType, path: str) -> Iterator[str]:
        fields = {field.encode_name: field.type for field in struct.fields}
        for name, inner in value.items():
            where = f"{path}.{name}".lstrip(".")
            if name in fields:
                yield from self._unread(inner, fields[name], where)
            elif name != struct.tag_field and _NAME.fullmatch(name) and self._asks(inner, where):
                yield where

    def _asks(self, value: Any, path: str) -> bool:
        return path not in self._harmless and value not in NOTHING and value not in self._defaults.get(path, ())


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
