"""Charges for answers that are none: the same by every path, as docs/guarantees.md has it.

A token of the prompt costs 2.8 msat, one of the answer 14, and work 700 on top; the verdict of `/ask` 28.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx
import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.llm.token_estimate import estimated_tokens
from tests.helpers.anthropic_streams import STOP, Body, block, change, delta, sse, start
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

Json = dict[str, Any]
Reply = Callable[[bool], httpx2.Response]
JUDGED: Final = 28
BASE: Final = 280 + 700
GIVEN: Final = "So far, so good. "
PATHS = [
    (path, stream)
    for path in ("/ask", "/v1/messages", "/v1/chat/completions", "/v1/responses")
    for stream in (False, True)
]
BY_EVERY_PATH = pytest.mark.parametrize(("path", "stream"), PATHS)


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


def message(content: list[Json], stop_reason: str, output_tokens: int) -> Json:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content}
    return {**head, "stop_reason": stop_reason, "usage": {"input_tokens": 100, "output_tokens": output_tokens}}


VERDICT = message(
    [{"type": "text", "text": json.dumps({"reason": "Fine.", "decision": "accept", "size": "small"})}], "end_turn", 20
)


def answered(text: str, stop_reason: str, output_tokens: int) -> Reply:
    """An answer of the provider's, as it is asked for."""

    def reply(stream: bool) -> httpx2.Response:
        if not stream:
            content = [{"type": "text", "text": text}] if text else []
            return httpx2.Response(200, json=message(content, stop_reason, output_tokens))
        given = (block(), delta(text), {"type": "content_block_stop", "index": 0}) if text else ()
        events = (*given, change(stop_reason, {"output_tokens": output_tokens}), STOP)
        return streamed(sse(start({"input_tokens": 100, "output_tokens": 1}), *events))

    return reply


def streamed(*chunks: bytes | Exception) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(chunks))


def script(shop: Shop, work: Reply) -> None:
    """Has the provider accept every request, and then do this."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        sent = json.loads(request.content)
        return httpx2.Response(200, json=VERDICT) if "output_config" in sent else work(bool(sent.get("stream")))

    shop.upstream.reply = reply


async def asked(shop: Shop, path: str, stream: bool) -> tuple[httpx.Response, int, int]:
    """The answer, what it cost, and how often the model was asked for the work."""
    body: Json = {"request": "Hello"} if path == "/ask" else {"model": MODEL, "max_tokens": 500, "messages": HELLO}
    if path == "/v1/responses":
        body = {"model": MODEL, "max_output_tokens": 500, "input": "Hello"}
    answer: httpx.Response = await shop.post({**body, "stream": stream}, path)
    await shop.until_free()
    debits = [entry["amountMsat"] for entry in await shop.ledger() if entry["kind"] == "debit"]
    works = [sent for sent in shop.upstream.bodies if "output_config" not in sent]
    return answer, sum(debits), len(works)


def judged(path: str) -> int:
    return JUDGED if path == "/ask" else 0


@BY_EVERY_PATH
async def test_a_refusal_without_output_costs_no_work(shop: Shop, path: str, stream: bool) -> None:
    script(shop, answered("", "refusal", 0))
    answer, msat, calls = await asked(shop, path, stream)
    assert (answer.status_code, msat, calls) == (200, judged(path), 1)
    if path == "/ask":
        found = answer.json() if not stream else json.loads(answer.text.split("data: ")[1])
        assert (found["state"], found["debitedMsat"]) == ("rejected", JUDGED)
        assert found["reason"].startswith("The model declined")
    elif path == "/v1/messages":
        assert '"refusal"' in answer.text


@BY_EVERY_PATH
async def test_a_refusal_behind_a_beginning_costs_what_was_written(shop: Shop, path: str, stream: bool) -> None:
    script(shop, answered(GIVEN, "refusal", 7))
    answer, msat, calls = await asked(shop, path, stream)
    assert (answer.status_code, msat, calls) == (200, BASE + 7 * 14 + judged(path), 1)
    assert GIVEN in answer.text and ("refusal" in answer.text or "content_filter" in answer.text)


@BY_EVERY_PATH
async def test_an_empty_answer_is_one_where_the_provider_s_api_is_spoken(shop: Shop, path: str, stream: bool) -> None:
    script(shop, answered("", "end_turn", 3))
    answer, msat, _ = await asked(shop, path, stream)
    if path != "/ask":
        assert (answer.status_code, msat) == (200, BASE + 3 * 14)
    else:
        assert (answer.status_code, msat) == (502, 0)


@BY_EVERY_PATH
@pytest.mark.parametrize("status", [400, 529, 500])
async def test_what_fails_before_its_first_byte_costs_nothing(shop: Shop, path: str, stream: bool, status: int) -> None:
    script(shop, lambda _: httpx2.Response(status, json={"type": "error", "error": {"type": "x", "message": "no"}}))
    answer, msat, _ = await asked(shop, path, stream)
    assert answer.status_code >= 400 and msat == 0


@BY_EVERY_PATH
async def test_what_is_silent_before_its_first_byte_costs_nothing_and_is_asked_for_once(
    shop: Shop, path: str, stream: bool
) -> None:
    def silent(_: bool) -> httpx2.Response:
        raise httpx2.ReadTimeout("silent")

    script(shop, silent)
    answer, msat, calls = await asked(shop, path, stream)
    assert answer.status_code >= 500 and (msat, calls) == (0, 1)


@BY_EVERY_PATH
@pytest.mark.parametrize("status", [None, 504])
async def test_what_was_sent_and_not_answered_costs_nothing_and_is_asked_for_once(
    shop: Shop, path: str, stream: bool, status: int | None
) -> None:
    """The provider may bill it, and would bill another one as well."""

    def broken(_: bool) -> httpx2.Response:
        if status is not None:
            return httpx2.Response(status, content=b"gateway time-out")
        raise httpx2.ReadError("reset")

    script(shop, broken)
    answer, msat, calls = await asked(shop, path, stream)
    assert answer.status_code >= 500 and (msat, calls) == (0, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_evaluation_that_was_sent_and_not_answered_is_asked_for_once(shop: Shop, stream: bool) -> None:
    def reply(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("reset")

    shop.upstream.reply = reply
    answer, msat, works = await asked(shop, "/ask", stream)
    assert answer.status_code >= 500 and (msat, works, len(shop.upstream.bodies)) == (0, 0, 1)


@pytest.mark.parametrize("path", ["/ask", "/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("error", [httpx2.ReadError("reset"), httpx2.ReadTimeout("silent")])
async def test_a_stream_that_breaks_off_costs_what_was_given(shop: Shop, path: str, error: Exception) -> None:
    begun = sse(start({"input_tokens": 100, "output_tokens": 1}), block(), delta(GIVEN))
    script(shop, lambda _: streamed(begun, error))
    answer, msat, calls = await asked(shop, path, stream=True)
    assert (answer.status_code, calls) == (200, 1) and GIVEN in answer.text and '"model_failed"' in answer.text
    assert msat == BASE + estimated_tokens(GIVEN, MODEL) * 14 + judged(path)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_ask_that_breaks_off_before_anything_was_given_costs_nothing(
    shop: Shop, stream: bool
) -> None:
    given = (delta(GIVEN),) if not stream else ()
    begun = sse(start({"input_tokens": 100, "output_tokens": 1}), block(), *given)
    script(shop, lambda _: streamed(begun, httpx2.ReadError("reset")))
    answer, msat, _ = await asked(shop, "/ask", stream)
    assert (answer.status_code >= 500, msat) == (True, 0)


@BY_EVERY_PATH
async def test_an_answer_that_max_tokens_cut_off_costs_what_was_written(shop: Shop, path: str, stream: bool) -> None:
    script(shop, answered(GIVEN, "max_tokens", 9))
    answer, msat, _ = await asked(shop, path, stream)
    assert (answer.status_code, msat) == (200, BASE + 9 * 14 + judged(path)) and GIVEN in answer.text


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("error", [httpx2.ReadError("reset"), httpx2.ReadTimeout("silent")])
async def test_a_whole_call_that_breaks_off_in_the_middle_costs_nothing(
    shop: Shop, path: str, error: Exception
) -> None:
    body = Body([b'{"id":"msg_1","content":[{"type":"text","te', error])
    script(shop, lambda _: httpx2.Response(200, headers={"content-type": "application/json"}, stream=body))
    answer, msat, calls = await asked(shop, path, stream=False)
    assert answer.status_code >= 500 and (msat, calls) == (0, 1)


NO_MESSAGES = {
    "no JSON": b"<html>ok</html>",
    "no object": b"[]",
    "empty": b"{}",
    "usage alone": b'{"id":"msg_1","type":"message","usage":{"input_tokens":100,"output_tokens":9}}',
    "no blocks": b'{"content":"So far","stop_reason":"end_turn","usage":{"input_tokens":100,"output_tokens":9}}',
    "blocks of no kind": b'{"content":[{"text":"So far"}],"usage":{"input_tokens":100,"output_tokens":9}}',
}


@BY_EVERY_PATH
@pytest.mark.parametrize("name", NO_MESSAGES)
async def test_what_is_not_a_message_costs_nothing(shop: Shop, path: str, stream: bool, name: str) -> None:
    """A proxy's page, or a server that speaks another API, with a status of success."""
    body = NO_MESSAGES[name]
    kinds = {True: "text/event-stream", False: "application/json"}
    script(shop, lambda asked: httpx2.Response(200, content=body, headers={"content-type": kinds[asked]}))
    answer, msat, _ = await asked(shop, path, stream)
    assert (answer.status_code, msat) == (502, 0)
    assert "model_failed" in answer.text and "nothing was charged" in answer.text


@BY_EVERY_PATH
async def test_a_message_without_figures_is_delivered_and_costs_an_estimate(
    shop: Shop, path: str, stream: bool
) -> None:
    def reply(streams: bool) -> httpx2.Response:
        if not streams:
            found = message([{"type": "text", "text": GIVEN}], "end_turn", 0)
            return httpx2.Response(200, json={name: found[name] for name in ("type", "content", "stop_reason")})
        started = {"type": "message_start", "message": {}}
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
        stop = {"type": "content_block_stop", "index": 0}
        return streamed(sse(started, block(), delta(GIVEN), stop, ended, STOP))

    script(shop, reply)
    answer, msat, _ = await asked(shop, path, stream)
    assert answer.status_code == 200 and GIVEN in answer.text
    assert msat > 700
