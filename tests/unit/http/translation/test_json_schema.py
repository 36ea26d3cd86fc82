"""JSON schemas as the Messages API takes them."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.http.translation.json_schema import UnfitSchemaError, fitted

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["string", "null"], "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": []}, {"type": "string", "description": "{format: []}"}),
        ({"type": "array", "minItems": {}}, {"type": "array", "description": "{minItems: {}}"}),
        ({"type": "string", "format": "phone"}, {"type": "string", "description": '{format: "phone"}'}),
        (
            {"type": "integer", "description": "A number.", "minimum": 1, "maximum": 10},
            {"type": "integer", "description": "A number.\n\n{minimum: 1, maximum: 10}"},
        ),
        (
            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 9},
            {
                "type": "array",
                "items": {"type": "string", "description": "{minLength: 1}"},
                "minItems": 1,
                "description": "{maxItems: 9}",
            },
        ),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 2},
            {"type": "array", "items": {"type": "null"}, "description": "{minItems: 2}"},
        ),
        ({"oneOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 1}, {"const": 2}]}),
        ({"allOf": [{"$ref": "#/$defs/a", "description": "lost"}]}, {"allOf": [{"$ref": "#/$defs/a"}]}),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {}}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {}, "additionalProperties": False}}},
        ),
        (
            {"$schema": "x", "$id": "y", "type": "object", "properties": {"minimum": {"type": "number", "default": 1}}},
            {
                "type": "object",
                "properties": {"minimum": {"type": "number", "default": 1}},
                "additionalProperties": False,
            },
        ),
        (
            {"properties": {"a": {"type": "string"}}, "additionalProperties": True, "required": ["a"]},
            {"properties": {"a": {"type": "string"}}, "additionalProperties": False, "required": ["a"]},
        ),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
    ],
)
def test_what_is_known_stays_and_the_rest_is_told_to_the_model(schema: Json, expected: Json) -> None:
    assert fitted(schema) == expected
    assert fitted(expected) == expected, "what fits is left alone"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}},
        {"type": ["object", "null"], "additionalProperties": True},
        {"type": "array", "items": True},
        {"properties": []},
        {"properties": {"a": "string"}},
        {"anyOf": [1]},
    ],
)
def test_what_can_t_be_held_to_is_refused(schema: Json) -> None:
    with pytest.raises(UnfitSchemaError):
        fitted(schema)


def test_a_schema_that_was_given_is_not_changed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
    fitted(schema)
    assert schema == {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
