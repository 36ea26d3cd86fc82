"""Answers of an upstream that cuts texts in the middle of characters: what is charged is also delivered."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from tests.helpers.anthropic_streams import STOP, block, change, delta, start
from tests.helpers.http.messages import MODEL, shop_over

MESSAGES = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
RESPONSES = {"model": MODEL, "max_output_tokens": 100, "input": "x"}
PATHS: list[tuple[str, Any]] = [
    ("/v1/messages", MESSAGES),
    ("/v1/chat/completions", MESSAGES),
    ("/v1/responses", RESPONSES),
]


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_a_whole_answer_with_half_a_character_is_given(redis: Redis, path: str, body: Any) -> None:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn"}
    usage = {"input_tokens": 5, "output_tokens": 5}
    said = json.dumps({**head, "content": [{"type": "text", "text": "salt \ud83d"}], "usage": usage})
    async with shop_over(redis) as shop:
        shop.upstream.reply = lambda _: httpx2.Response(200, content=said)
        answer = await shop.post(body, path)
        assert (answer.status_code, "salt \ufffd" in json.dumps(answer.json(), ensure_ascii=False)) == (200, True)
        assert (await shop.show())["spentMsat"] > 0


@pytest.mark.parametrize(("path", "body"), PATHS[1:])
async def test_no_text_of_a_stream_is_lost_with_half_a_character(redis: Redis, path: str, body: Any) -> None:
    parts = [start(), block(), delta("salt \ud83d"), delta("\ude00 sea"), change(), STOP]
    lines = [f"data: {json.dumps(part)}\n\n".encode() for part in parts]
    async with shop_over(redis) as shop:
        shop.upstream.streams(*lines)
        answer = await shop.post({**body, "stream": True}, path)
        assert "salt \ufffd" in answer.text and "\ufffd sea" in answer.text
