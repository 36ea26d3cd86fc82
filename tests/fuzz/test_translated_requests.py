"""Requests of all dialects, changed in any part: a body for the upstream, or a refusal that can be told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.llm.catalogue import Api
from satmeter.actors.domain.llm.relays import countable
from satmeter.http.anthropic.body import read_call, read_count
from satmeter.http.anthropic.over_chat.dialect import MessagesOverChat
from satmeter.http.openai.over_chat import ChatOverChat
from satmeter.http.openai.routes import Chat
from satmeter.http.request_facts import RequestFacts
from satmeter.http.response import errors
from satmeter.http.response.error_formats import anthropic, openai
from satmeter.http.responses.dialects import ResponsesOverChat, ResponsesOverMessages
from satmeter.http.translation.relaying import Dialect, _ignored
from satmeter.http.upstreams.provider_call import ProviderCall
from satmeter.http.upstreams.served_models import ServedModels
from tests.fuzz.mutations import bodies
from tests.fuzz.request_seeds import CHATS, MESSAGES, RESPONSES
from tests.helpers.models import entry, served

NAMES = ("claude-sonnet-5-5", "claude-haiku-4-5", "claude-opus-5-5", "tiny")
OVER_MESSAGES = served(*NAMES)
OVER_CHAT = served(*(entry(name, context_tokens=8_192, max_output_tokens=2_048) for name in NAMES), api=Api.OPENAI)
KEY = b"a key of a test"
DIALECTS: Sequence[tuple[Dialect[Any], ServedModels, Sequence[Any]]] = (
    (Chat(), OVER_MESSAGES, CHATS),
    (ChatOverChat(), OVER_CHAT, CHATS),
    (ResponsesOverMessages(), OVER_MESSAGES, RESPONSES),
    (ResponsesOverChat(), OVER_CHAT, RESPONSES),
    (MessagesOverChat(), OVER_CHAT, MESSAGES),
)
CODES = (Code.INVALID_REQUEST, Code.MODEL_NOT_FOUND)


def told(error: RefusedError) -> None:
    """Check that a refusal has one of these codes, and can be written in both formats."""
    assert error.refusal.code in CODES
    for shape in (openai, anthropic):
        answer = errors.answer(error, RequestFacts("req_a"), shape)
        assert 400 <= answer.status_code < 500 and json.loads(bytes(answer.body))


def fit_to_send(call: ProviderCall) -> None:
    """Check that a call's body is JSON, and that its limit can be lowered where the call says."""
    body = call.body
    # Half a character goes on as it came; msgspec does not read it.
    sent = json.loads(body.data)
    assert isinstance(sent, dict) and isinstance(sent["model"], str)
    assert int(body.data[body.start : body.end]) == body.max_tokens >= 0
    lowered = json.loads(body.lowered(1))
    assert {**lowered, "max_tokens": 0, "max_completion_tokens": 0} == {
        **sent,
        "max_tokens": 0,
        "max_completion_tokens": 0,
    }
    assert call.prompt_tokens_max is None or call.prompt_tokens_max > 0
    assert body.choices >= 1
    assert json.loads(countable(body.data))


@pytest.mark.parametrize("number", range(len(DIALECTS)))
def test_all_seeds_are_taken(number: int) -> None:
    dialect, models, seeds = DIALECTS[number]
    for seed in seeds:
        fit_to_send(dialect.call(dialect.asked(json.dumps(seed).encode(), models, KEY), 500, models))
    for seed in MESSAGES:
        fit_to_send(read_call(json.dumps(seed).encode(), OVER_MESSAGES))


@pytest.mark.parametrize("number", range(len(DIALECTS)))
@given(data=st.data())
def test_any_request_is_translated_or_refused(number: int, data: st.DataObject) -> None:
    dialect, models, seeds = DIALECTS[number]
    body = data.draw(bodies(seeds))
    try:
        models.api_of(body)
        asked = dialect.asked(body, models, KEY)
        call = dialect.call(asked, 500, models)
    except RefusedError as error:
        told(error)
        return
    fit_to_send(call)
    for value in _ignored(asked).values():
        assert value.encode("ascii") and value.isprintable()
    if isinstance(dialect, ResponsesOverMessages | ResponsesOverChat):
        try:
            _, counting = dialect.counted(asked, models)
        except RefusedError as error:
            told(error)
        else:
            assert json.loads(counting)
        dialect.estimate(asked)


@given(bodies(MESSAGES))
def test_any_message_is_passed_on_or_refused(body: bytes) -> None:
    try:
        OVER_MESSAGES.api_of(body)
        call = read_call(body, OVER_MESSAGES)
    except RefusedError as error:
        told(error)
    else:
        fit_to_send(call)
    try:
        counting = read_count(body, OVER_MESSAGES)
    except RefusedError as error:
        told(error)
    else:
        assert json.loads(counting.body)
