"""JSON schemas for structured answers of the Messages API, which knows fewer keywords than clients send.

Unknown keywords become part of the description, so that the model reads them though the API does not enforce them. The
lists follow Anthropic's guide "Structured outputs".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

_KEPT: Final = frozenset({"type", "enum", "const", "title", "default", "required"})
# Annotations that say nothing about the answer.
_DROPPED: Final = frozenset({"$schema", "$id", "$comment", "examples", "description", "additionalProperties"})
_NESTED: Final = frozenset({"properties", "$defs", "definitions"})
_CHOICES: Final[Mapping[str, str]] = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_MIN_ITEMS: Final = frozenset({0, 1})


class UnfitSchemaError(Exception):
    """A schema that can't be enforced; the text says why."""


def fitted(schema: Any) -> dict[str, Any]:
    """Return the schema without the keywords that the API refuses. Raises `UnfitSchemaError`, `RecursionError`."""
    if not isinstance(schema, dict):
        raise UnfitSchemaError("Every schema in it must be a JSON object")
    if isinstance(schema.get("$ref"), str):
        nested = {name: _each(schema[name]) for name in ("$defs", "definitions") if name in schema}
        return {"$ref": schema["$ref"], **nested}
    made: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _KEPT or _is_kept(word, value):
            made[word] = value
        elif word in _NESTED:
            made[word] = _each(value)
        elif word in _CHOICES and isinstance(value, list):
            made[_CHOICES[word]] = [fitted(choice) for choice in value]
        elif word == "items":
            made[word] = fitted(value)
        elif word not in _DROPPED:
            notes[word] = value
    if _is_object(schema):
        free = schema.get("additionalProperties", "properties" not in schema)
        if not schema.get("properties") and free is not False:
            raise UnfitSchemaError("An object must name its properties: one with free names can't be held to")
        made["additionalProperties"] = False
    description = _described(schema.get("description"), notes)
    return {**made, "description": description} if description else made


def _is_kept(word: str, value: Any) -> bool:
    if word == "format":
        return isinstance(value, str) and value in _FORMATS
    return word == "minItems" and isinstance(value, int) and value in _MIN_ITEMS


def _each(schemas: Any) -> dict[str, Any]:
    if not isinstance(schemas, dict):
        raise UnfitSchemaError("Properties and definitions must be JSON objects")
    return {name: fitted(schema) for name, schema in schemas.items()}


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _described(description: Any, notes: Mapping[str, Any]) -> str:
    told = description if isinstance(description, str) else ""
    if not notes:
        return told
    rules = ", ".join(f"{word}: {msgspec.json.encode(value).decode()}" for word, value in notes.items())
    return f"{told}\n\n{{{rules}}}" if told else f"{{{rules}}}"
