"""Ids of answers have one prefix, whichever the upstream's own has."""

from __future__ import annotations

import pytest

from satmeter.http.openai.answer import completion_id
from satmeter.http.responses.answer import answer_id
from satmeter.http.responses.over_chat.pieces import answer_id as answer_id_over_chat
from satmeter.http.translation.answer_ids import bare_id
from tests.helpers.chat_answers import completion
from tests.helpers.messages_over_chat import whole


@pytest.mark.parametrize("given", ["x", "msg_x", "chatcmpl-x", "resp_x", "chatcmpl-chatcmpl-x", "msg_chatcmpl-x"])
def test_an_id_is_given_without_the_prefix_that_it_has(given: str) -> None:
    assert bare_id(given) == "x"
    assert completion_id(given) == "chatcmpl-x"
    assert answer_id(given) == "x"
    assert answer_id_over_chat(given, 0xA) == "x_a"


@pytest.mark.parametrize("given", ["", "gen-17_msg_x", "7"])
def test_what_only_holds_a_prefix_elsewhere_is_left(given: str) -> None:
    assert bare_id(given) == given


def test_a_message_over_chat_completions_has_one_prefix() -> None:
    body = completion(content="Hi").replace(b"chatcmpl-1", b"msg_1")
    assert whole(body).id == "msg_1"
