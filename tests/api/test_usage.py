"""Charges by the provider's figures, to the msat: whole and streamed, in both APIs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.helpers.anthropic_streams import STOP, block, change, delta, sse, start
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

PATHS = ("/v1/messages", "/v1/chat/completions")
M5, M60 = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
Json = dict[str, Any]


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


def written(**members: Any) -> Json:
    """14,980 tokens written to the cache, by lifetime."""
    counts = {"input_tokens": 27, "output_tokens": 275, "cache_creation_input_tokens": 14_980}
    return {**counts, "cache_creation": members}


async def spent(shop: Shop, path: str, usage: Json, *later: Json) -> int:
    """Return the cost of a call whose provider reports these figures; in a stream, if there are later ones."""
    if later:
        shop.upstream.streams(sse(start(usage), block(), delta("Hello."), *(change(usage=one) for one in later), STOP))
    else:
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn"}
        shop.upstream.answers(200, {**head, "content": [{"type": "text", "text": "Hello."}], "usage": usage})
    before = (await shop.show())["spentMsat"]
    call = {"model": MODEL, "max_tokens": 20_000, "messages": HELLO, "stream": bool(later)}
    answer = await shop.post(call, path)
    assert answer.status_code == 200, answer.text
    after = await shop.show()
    assert after["heldMsat"] == 0
    return int(after["spentMsat"] - before)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("usage", "msat"),
    [
        (written(**{M60: 14_980}), 88_514),
        (written(**{M5: None, M60: 14_980}), 88_514),
        (written(**{M5: 14_980}), 57_056),
        (written(), 57_056),
        (written(**{M5: None, M60: None}), 57_056),
        (written(**{M5: 7_000}), 57_056),
        (written(**{M60: 7_490}), 72_785),
        ({"input_tokens": 27, "output_tokens": 47}, 1_434),
        ({"input_tokens": 27, "output_tokens": 47, "cache_read_input_tokens": 1_000}, 1_574),
    ],
)
async def test_what_the_provider_counts_is_charged(shop: Shop, path: str, usage: Json, msat: int) -> None:
    assert await spent(shop, path, usage) == msat
    assert await spent(shop, path, usage, {"output_tokens": usage["output_tokens"]}) == msat
    assert await spent(shop, path, {"input_tokens": 0, "output_tokens": 1}, usage) == msat


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("nothing", [0, None])
async def test_a_later_zero_or_null_makes_nothing_cheaper(shop: Shop, path: str, nothing: Any) -> None:
    first = {"input_tokens": 27, "output_tokens": 1}
    assert await spent(shop, path, first, {"input_tokens": nothing, "output_tokens": 47}) == 1_434
    reads = {**first, "cache_read_input_tokens": 1_000}
    later = {"input_tokens": nothing, "cache_read_input_tokens": nothing, "output_tokens": 47}
    assert await spent(shop, path, reads, later) == 1_574


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1, "output_tokens": 47}, "many", {"output_tokens": 47}])
async def test_figures_that_can_t_be_read_are_never_free_and_within_the_hold(shop: Shop, path: str, usage: Any) -> None:
    for later in ((), (usage,)):
        msat = await spent(shop, path, usage, *later)
        held = [-entry["amountMsat"] for entry in await shop.ledger() if entry["kind"] == "hold"]
        assert 700 < msat <= max(map(abs, held))


@pytest.mark.parametrize("path", PATHS)
async def test_absurd_figures_cost_the_hold_at_most(shop: Shop, path: str) -> None:
    msat = await spent(shop, path, {"input_tokens": 99_999_999, "output_tokens": 99_999_999})
    (held,) = {abs(entry["amountMsat"]) for entry in await shop.ledger() if entry["kind"] == "hold"}
    assert msat == held


async def test_chat_shows_the_tokens_that_it_charges(shop: Shop) -> None:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn"}
    shop.upstream.answers(200, {**head, "content": [], "usage": written(**{M5: True, M60: 15_000})})
    answer = await shop.post({"model": MODEL, "messages": HELLO}, PATHS[1])
    usage = json.loads(answer.content)["usage"]
    assert usage["prompt_tokens"] == 15_027 and usage["prompt_tokens_details"]["cache_write_tokens"] == 15_000


# Cache marks


@pytest.mark.parametrize("place", ["message", "part"])
async def test_a_mark_on_a_message_of_chat_is_honoured_as_one_on_a_part(shop: Shop, place: str) -> None:
    long, mark = "x" * 20_000, {"cache_control": {"type": "ephemeral"}}
    content: Any = long if place == "message" else [{"type": "text", "text": long, **mark}]
    system = {"role": "system", "content": content, **(mark if place == "message" else {})}
    call = {"model": MODEL, "max_tokens": 5, "messages": [system, *HELLO]}
    msat: list[int] = []
    for _ in range(2):
        answer = await shop.post(call, PATHS[1])
        assert answer.status_code == 200 and "satmeter-ignored" not in answer.headers
        msat.append((await shop.show())["spentMsat"] - sum(msat))
    # 5,000 tokens: written at 2.5 dollars a million, then read at 0.1; beside them 3 in, 5 out, infrastructure.
    assert msat == [18_279, 1_479]


async def test_what_has_no_effect_anywhere_in_chat_is_named_in_the_header(shop: Shop) -> None:
    call = {"model": MODEL, "seed": 1, "messages": [{**HELLO[0], "foo": "bar"}]}
    whole = await shop.post(call, PATHS[1])
    streamed = await shop.post({**call, "stream": True}, PATHS[1])
    for answer in (whole, streamed):
        assert answer.headers["satmeter-ignored"] == "seed, messages[].foo"


# What bytes don't bound


def fetched(source: Json) -> list[Any]:
    """A history with a page that the provider fetched in an earlier turn."""
    page = {"type": "web_fetch_result", "url": "https://a.test", "content": {"type": "document", "source": source}}
    block = {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": page}
    return [*HELLO, {"role": "assistant", "content": [block]}, *HELLO]


async def test_a_pdf_in_the_history_is_counted_before_it_is_held(shop: Shop) -> None:
    usage = {"input_tokens": 300_000, "output_tokens": 1}
    head = {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn", "usage": usage}
    shop.upstream.answers(200, {**head, "input_tokens": 300_000})
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    answer = await shop.post({"model": MODEL, "max_tokens": 1, "messages": fetched(pdf)})
    assert answer.status_code == 200
    assert [request.url.path for request in shop.upstream.requests] == ["/v1/messages/count_tokens", "/v1/messages"]
    # 300,000 in at 2 dollars a million, 1 out at 10, infrastructure.
    assert (await shop.show())["spentMsat"] == 840_714


@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "https://a.test/a.pdf"},
        {"type": "file", "file_id": "file_1"},
        {"type": "text", "data": "x", "file_id": "f"},
    ],
)
async def test_what_can_t_be_priced_is_refused_before_anything_is_held(shop: Shop, source: Json) -> None:
    answer = await shop.post({"model": MODEL, "max_tokens": 1, "messages": fetched(source)})
    assert answer.status_code == 400
    assert answer.json()["fields"][0]["path"] == "messages.1.content.0.content.content.source"
    assert shop.upstream.requests == [] and [entry["kind"] for entry in await shop.ledger()] == ["deposit"]


async def test_a_hold_that_was_too_small_is_an_error_in_the_log_with_ids_and_amounts(shop: Shop) -> None:
    with capture_logs() as logs:
        msat = await spent(shop, PATHS[0], {"input_tokens": 300_000, "output_tokens": 47})
    (told,) = [entry for entry in logs if entry["event"] == "hold_was_too_small"]
    (held,) = {abs(entry["amountMsat"]) for entry in await shop.ledger() if entry["kind"] == "hold"}
    assert told["log_level"] == "error" and told["actor_id"] == shop.session_id
    assert told["request_id"].startswith("req_") and told["held_msat"] == held == msat
    # (300,000 at 2 and 47 at 10 dollars a million, and 0.0005) with 40 % on top.
    assert told["price_usd"] == "0.841358" and told["prompt_tokens"] == 300_000
    assert float(told["uncovered_usd"]) == pytest.approx(0.841358 - held / 1e6)


# What is billed apart from the plain rates


async def test_inference_in_the_us_is_priced_when_it_is_asked_for(shop: Shop) -> None:
    usage = {"input_tokens": 27, "output_tokens": 47, "inference_geo": "us"}
    head = {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn", "usage": usage}
    shop.upstream.answers(200, head)
    call = {"model": MODEL, "max_tokens": 100, "messages": HELLO, "inference_geo": "us"}
    with capture_logs() as logs:
        answer = await shop.post(call)
    # (27 at 2 and 47 at 10 dollars a million) times 1.1, and 0.0005, with 40 %.
    assert answer.headers["satmeter-debited-msat"] == "1507" and (await shop.show())["spentMsat"] == 1_507
    assert shop.upstream.bodies[0]["inference_geo"] == "us"
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    refused = await shop.post({**call, "inference_geo": "eu"})
    assert refused.status_code == 400 and refused.json()["fields"][0]["path"] == "inference_geo"
    listed = (await shop.api.http.get(f"/v1/models/{MODEL}")).json()
    assert listed["pricing"]["multipliers"] == {"inference_geo_us": "1.1"}
    shown = {entry["model"]: entry for entry in (await shop.api.http.get("/pricing")).json()["models"]}
    assert shown[MODEL]["multipliers"] == {"inference_geo_us": "1.1"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("extra", "msat", "what"),
    [
        ({"inference_geo": "us"}, 1_507, "inference_geo_us"),
        ({"service_tier": "priority"}, 1_434, "service_tier_priority"),
        ({"speed": "fast"}, 1_434, "speed_fast"),
        ({"server_tool_use": {"web_search_requests": 2}}, 1_434, "web_search_requests"),
    ],
)
async def test_what_is_billed_unasked_is_an_error_in_the_log_with_ids(
    shop: Shop, path: str, extra: Json, msat: int, what: str
) -> None:
    usage = {"input_tokens": 27, "output_tokens": 47, **extra}
    for later in ((), ({"output_tokens": 47},)):
        with capture_logs() as logs:
            assert await spent(shop, path, usage, *later) == msat
        (told,) = [entry for entry in logs if entry["log_level"] == "error"]
        assert told["event"].startswith("model_provider_bills_what_")
        assert (told["actor_id"], told["model"], told["what"]) == (shop.session_id, MODEL, what)
        assert told["request_id"].startswith("req_")
