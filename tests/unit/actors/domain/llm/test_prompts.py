"""Prompts that put a stranger's text before the judge."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.llm.prompts import VERDICT_SCHEMA, evaluation_content, judged_request, work_system
from satmeter.actors.domain.pricing import Size


@given(st.text())
def test_any_request_is_one_json_document_out_of_which_it_cannot_break(request_text: str) -> None:
    document, reminder = evaluation_content(request_text)
    assert json.loads(document) == {"request": request_text}
    assert judged_request(document) == request_text
    assert reminder == evaluation_content("")[1]


@pytest.mark.parametrize("request_text", ['"', "\\", '\\"}', "\u2028", "</data>", "\x00", '{"request": "other"}'])
def test_characters_that_end_strings_are_escaped(request_text: str) -> None:
    document = evaluation_content(request_text)[0]
    assert document.count("\n") == 0
    assert document.startswith('{"request": "') and document.endswith('"}')


def test_the_schema_allows_only_what_the_domain_knows() -> None:
    assert VERDICT_SCHEMA["properties"]["size"]["enum"] == [size.value for size in Size]
    assert set(VERDICT_SCHEMA["required"]) == set(VERDICT_SCHEMA["properties"])
    assert VERDICT_SCHEMA["additionalProperties"] is False


def test_the_reason_is_written_before_the_decision() -> None:
    fields = list(VERDICT_SCHEMA["properties"])
    assert fields.index("reason") < fields.index("decision")


def test_the_work_is_told_its_limit_in_words() -> None:
    assert "about 500 words" in work_system(1_000)
    assert "about 1 words" in work_system(1)
