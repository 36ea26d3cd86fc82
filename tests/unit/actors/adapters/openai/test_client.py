"""The provider of chat completions: our own calls, counts, models, and what becomes of every kind of failure."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from structlog.testing import capture_logs

from satmeter.actors.adapters.openai.client import OpenAiProvider
from satmeter.actors.adapters.upstream.http import (
    HttpError,
    NotSentError,
    SentUnknownError,
    SilentServerError,
)
from satmeter.actors.domain.llm.answers import Completion, StreamPart, TextDelta, UsageSoFar
from satmeter.actors.domain.llm.prompts import EVALUATION_MAX_TOKENS, EVALUATION_SYSTEM, VERDICT_SCHEMA, judged_request
from satmeter.actors.domain.llm.relays import RelayEnd
from satmeter.actors.domain.pricing import Size, Usage
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.ports import (
    MissingModelError,
    ModelError,
    NotCountedError,
    PermanentError,
    PortError,
    RefusedRequestError,
    SilentError,
    TransientError,
)
from tests.helpers.chat_upstream import (
    BASE_URL,
    BODY,
    COUNTED,
    DONE,
    MODEL,
    SECRET,
    STOP,
    USAGE,
    WHOLE_STREAM,
    Answer,
    FakeHttp,
    Sent,
    answering,
    choice,
    chunk,
    message,
    parts_of,
    provider,
    reported,
    sse,
    streaming,
)

VERDICT = json.dumps({"reason": "Fine.", "decision": "accept", "size": "small"})


async def work(reply: FakeHttp | Answer | HttpError, found: list[StreamPart] | None = None) -> list[StreamPart]:
    found = [] if found is None else found
    async for part in provider(reply).stream(SECRET, model=MODEL, max_tokens=100):
        found.append(part)
    return found


def said(text: str, finish: str = "stop", *more: Any) -> Answer:
    return streaming(sse(chunk(choice(text)), *more, chunk(choice(finish=finish)), COUNTED, DONE))


# Our own calls


async def test_work_is_asked_for_as_a_stream_with_its_usage() -> None:
    http = FakeHttp(streaming(sse(*WHOLE_STREAM)))
    assert await work(http) == [
        TextDelta("Héllo, "),
        TextDelta("wörld 🌍"),
        UsageSoFar(Usage(18, 16), final=True, pauses=True, reported=reported(USAGE)),
        Completion("Héllo, wörld 🌍", MODEL, Usage(18, 16), "end_turn", reported(USAGE)),
    ]
    (sent,) = http.sent
    body = sent.json
    assert (body["model"], body["max_tokens"], body["stream"]) == (MODEL, 100, True)
    assert body["stream_options"] == {"include_usage": True} and "response_format" not in body
    system, user = body["messages"]
    assert (system["role"], user) == ("system", {"role": "user", "content": SECRET})
    assert "50 words" in system["content"]


async def test_an_evaluation_is_held_to_its_schema() -> None:
    http = FakeHttp(said(VERDICT))
    found = await provider(http).evaluate(SECRET, model=MODEL)
    assert (found.verdict.accepted, found.verdict.reason, found.verdict.size) == (True, "Fine.", Size.SMALL)
    assert (found.model, found.usage, found.reported) == (MODEL, Usage(18, 16), reported(USAGE))
    body = http.sent[0].json
    assert body["response_format"]["json_schema"] == {"name": "verdict", "strict": True, "schema": VERDICT_SCHEMA}
    assert body["max_tokens"] == EVALUATION_MAX_TOKENS
    system, user = body["messages"]
    assert system["content"] == EVALUATION_SYSTEM
    assert judged_request(user["content"].split("\n\n")[0]) == SECRET


@pytest.mark.parametrize(
    "answer",
    [
        said("Yes, I would accept that."),
        said(f"```json\n{VERDICT}\n```"),
        said(VERDICT, "length"),
        said(VERDICT, "content_filter"),
        said(json.dumps({"reason": " ", "decision": "accept", "size": "small"})),
        said(json.dumps({"reason": "x", "decision": "accept", "size": "small", "more": 1})),
        said(""),
        streaming(sse(chunk(choice(refusal="I can't.")), STOP, COUNTED, DONE)),
    ],
)
async def test_only_a_verdict_is_a_verdict(answer: Answer) -> None:
    with pytest.raises(TransientError) as caught:
        await provider(answer).evaluate(SECRET, model=MODEL)
    assert "accept that" not in str(caught.value)


async def test_a_server_that_does_not_stream_is_read_all_the_same() -> None:
    assert await work(answering(200, message("Done."))) == [
        Completion("Done.", MODEL, Usage(18, 16), "end_turn", reported(USAGE))
    ]
    made = provider(answering(200, message("Done.", None, finish="length")))
    found = await made.complete(SECRET, model=MODEL, max_tokens=9)
    assert found == Completion("Done.", MODEL, None, "max_tokens", reported(), given_bytes=5)


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("content_filter", "refusal")],
)
async def test_ends_have_the_names_of_the_messages_api(finish: str, stop_reason: str) -> None:
    completion = (await work(said("Done.", finish)))[-1]
    assert isinstance(completion, Completion) and completion.stop_reason == stop_reason


async def test_openai_s_own_servers_get_the_limit_by_its_newer_name() -> None:
    http = FakeHttp(streaming(sse(*WHOLE_STREAM)))
    made = OpenAiProvider(http, base_url="https://api.openai.com/v1", key="k")
    await made.complete(SECRET, model=MODEL, max_tokens=9)
    assert http.sent[0].json["max_completion_tokens"] == 9 and "max_tokens" not in http.sent[0].json


async def test_thoughts_are_no_part_of_the_work() -> None:
    thought = chunk(choice(None, reasoning_content="Let me see."))
    found = await work(streaming(sse(thought, chunk(choice("Done.")), chunk(choice("other", 1)), STOP, COUNTED, DONE)))
    assert [part for part in found if isinstance(part, TextDelta)] == [TextDelta("Done.")]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said("", "content_filter"), RefusedRequestError),
        (streaming(sse(chunk(choice(refusal="I can't.")), STOP, DONE)), RefusedRequestError),
        (answering(200, message(None, refusal="I can't.")), RefusedRequestError),
        (said(" ", "length"), PermanentError),
        (said(""), TransientError),
        (streaming(sse(chunk(choice("x")))), ModelError),
        (streaming(sse(chunk(choice("x")), {"error": {"code": 429, "message": SECRET}})), ModelError),
        (streaming(sse(chunk(choice("x")), {"error": {"code": 400, "message": SECRET}})), PermanentError),
        (streaming(sse({"error": {"code": 400, "message": SECRET}})), PermanentError),
        (streaming(b""), ModelError),
        (answering(200, b"<html>"), TransientError),
        (answering(400, {"error": {"message": SECRET, "type": "exceed_context_size_error"}}), PermanentError),
    ],
)
async def test_work_that_is_none_is_an_error(answer: Answer, error: type[PortError]) -> None:
    with pytest.raises(error) as caught:
        await work(answer)
    assert SECRET not in str(caught.value) and answer.closed == 1


async def test_an_error_after_the_beginning_may_be_billed() -> None:
    with pytest.raises(ModelError) as caught:
        await work(streaming(sse(chunk(choice("x")), {"error": {"code": 429}})))
    assert (caught.value.fault, caught.value.answered) == (ModelFault.FAILING, False)


async def test_ending_the_work_ends_the_exchange() -> None:
    answer = streaming(sse(*WHOLE_STREAM[:3]), hangs=True)
    async with aclosing(provider(answer).stream(SECRET, model=MODEL, max_tokens=9)) as parts:
        assert await anext(parts) == TextDelta("Héllo, ")
    assert answer.closed == 1
    found: list[StreamPart] = []
    waiting = streaming(sse(*WHOLE_STREAM[:2]), hangs=True)
    task = asyncio.create_task(work(waiting, found))
    while not found:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert waiting.closed == 1


# Failures


@pytest.mark.parametrize(
    ("failure", "error", "fault"),
    [
        (NotSentError("ConnectError"), ModelError, ModelFault.UNREACHABLE),
        (SentUnknownError("ReadError"), ModelError, ModelFault.FAILING),
        (SilentServerError("ReadTimeout"), SilentError, None),
    ],
)
async def test_what_the_connection_does_is_told_by_what_may_have_been_done(
    failure: HttpError, error: type[PortError], fault: ModelFault | None
) -> None:
    answers: list[Answer | HttpError] = [failure]
    if not isinstance(failure, NotSentError):
        answers += [streaming(failure), streaming(sse(*WHOLE_STREAM[:2]), failure)]
    for answer in answers:
        for call in (work(answer), parts_of(answer)):
            with pytest.raises(error) as caught:
                await call
            assert getattr(caught.value, "fault", None) is fault and not getattr(caught.value, "answered", False)
            assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answering(404, {"error": {"message": "no model", "code": "model_not_found"}}), MissingModelError),
        (answering(301, b"", location="http://elsewhere"), MissingModelError),
        (answering(405, b""), MissingModelError),
        (answering(408, b""), TransientError),
        (answering(409, b""), TransientError),
        (answering(204, b""), TransientError),
        (answering(418, b""), PermanentError),
        (answering(418, b"", **{"x-should-retry": "true"}), TransientError),
        (answering(500, b""), ModelError),
    ],
)
async def test_other_statuses(answer: Answer, error: type[PortError]) -> None:
    with pytest.raises(error):
        await parts_of(answer)
    assert answer.closed == 1


async def test_an_error_whose_body_breaks_off_is_told_by_its_status() -> None:
    with pytest.raises(ModelError) as caught:
        await parts_of(Answer(503, {}, (b'{"err', SentUnknownError("ReadError"))))
    assert caught.value.fault is ModelFault.UNAVAILABLE


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "99999999"}, 3_600.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
async def test_a_wait_that_is_asked_for_is_passed_on(headers: dict[str, str], wait_s: float | None) -> None:
    with pytest.raises(ModelError) as caught:
        await parts_of(answering(429, b"", **headers))
    assert (caught.value.fault, caught.value.retry_after_s) == (ModelFault.LIMITED, wait_s)


async def test_an_operator_s_fault_is_logged_without_words_of_the_upstream() -> None:
    for answer, status in ((answering(401, {"error": {"message": SECRET}}), 401), (answering(404, SECRET), 404)):
        with capture_logs() as logs, pytest.raises(PortError):
            await parts_of(answer)
        (entry,) = [entry for entry in logs if entry["event"] == "upstream_refuses_us"]
        assert entry["status"] == status and SECRET not in json.dumps(entry)


# Counts and models


def counting(tokens: Any = 27, status: int = 200) -> FakeHttp:
    return FakeHttp(lambda _: answering(status, {"object": "response.input_tokens", "input_tokens": tokens}))


async def test_a_server_that_counts_is_asked() -> None:
    http = counting()
    end = await provider(http).count_tokens(BODY, {}, beta=False)
    assert end == RelayEnd(200, {"content-type": "application/json"}, b'{"input_tokens":27}', None)
    (sent,) = http.sent
    assert sent.url == f"{BASE_URL}/chat/completions/input_tokens"
    assert sent.json == {"model": "tiny-llama", "messages": [{"role": "user", "content": "héllo"}]}
    assert await provider(http).prompt_tokens(SECRET, model=MODEL, max_tokens=9) == 27
    assert await provider(http).prompt_tokens(SECRET, model=MODEL, max_tokens=None) == 27
    assert http.sent[-1].json["messages"][0]["content"] == EVALUATION_SYSTEM


@pytest.mark.parametrize("http", [counting(status=404), counting(status=405), counting("many"), counting(None)])
async def test_a_server_that_does_not_count_is_asked_once(http: FakeHttp) -> None:
    made = provider(http)
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(NotCountedError):
                await made.count_tokens(BODY, {}, beta=False)
    assert len(http.sent) == 1
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("upstream_does_not_count_prompts", "info")]


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_a_count_that_is_refused_is_no_error_of_the_operators(status: int) -> None:
    with capture_logs() as logs, pytest.raises(NotCountedError):
        await provider(counting(status=status)).count_tokens(BODY, {}, beta=False)
    assert not [entry for entry in logs if entry["log_level"] in ("warning", "error")]


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
async def test_a_count_that_fails_says_nothing_about_the_upstream(status: int) -> None:
    http = counting(status=status)
    made = provider(http)
    for _ in range(2):
        with pytest.raises(NotCountedError):
            await made.count_tokens(BODY, {}, beta=False)
    assert len(http.sent) == 2


async def test_models_are_listed() -> None:
    http = FakeHttp(answering(200, {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]}))
    assert await provider(http, key=None).models() == ["a", "b"]
    (sent,) = http.sent
    assert (sent.url, sent.body, "authorization" in sent.headers) == (f"{BASE_URL}/models", None, False)


@pytest.mark.parametrize("answer", [answering(404, b""), answering(200, b"<html>"), answering(200, {"data": [1]})])
async def test_a_server_without_a_list_of_models_has_none(answer: Answer) -> None:
    assert await provider(answer).models() is None


async def test_a_list_of_models_may_fail() -> None:
    with pytest.raises(ModelError):
        await provider(answering(401, b"")).models()
    with pytest.raises(TransientError, match="too large"):
        await provider(answering(200, b"x" * (9 << 20))).models()


async def test_closing_ends_the_connections() -> None:
    http = FakeHttp(lambda _: answering(200, USAGE))
    made = OpenAiProvider(http, base_url=f"{BASE_URL}/")
    made.prepare()
    with pytest.raises(TransientError):
        await anext(made.relay(BODY, {}, model=MODEL, beta=True, stream=False))
    await made.close()
    assert http.closed == 1 and isinstance(http.sent[0], Sent) and http.sent[0].url.startswith(f"{BASE_URL}/chat")
