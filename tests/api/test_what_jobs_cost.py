"""Charges of jobs for answers that are none: the table of docs/guarantees.md, over the provider's own API.

The evaluation costs 10 sats and the work 9. A token of the prompt costs 2.8 msat, one of the answer 14, and work 700 on
top; of a prompt of 100 tokens that is 980.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.api.test_what_is_charged import GIVEN, Reply, answered, script, streamed
from tests.helpers.anthropic_streams import block, delta, sse, start
from tests.helpers.hosts import until
from tests.helpers.http.messages import Shop, shop_over
from tests.helpers.jobs import JOB_TERMS

EVALUATION: Final = 10_000
WORK: Final = 9_000
ATTEMPTS: Final = JOB_TERMS.model_attempts
BOTH: Final = {"owedMsat": EVALUATION + WORK, "paidMsat": 0, "payableSats": 19, "state": "owed"}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def done(shop: Shop, work: Reply) -> tuple[Any, int]:
    """The job in its final state, and how often the model was asked for the work; its time passes by itself."""
    script(shop, work)
    api = shop.api
    created = await api.create()
    await api.pay(created["evalInvoice"])
    quoted = await api.job_in(created["jobId"], "awaiting_work_payment")
    assert quoted["workInvoice"]["amountSats"] == WORK // 1_000
    await api.pay(quoted["workInvoice"])
    seen: list[Any] = []

    async def over() -> bool:
        api.world.offset_ms += 5_000
        seen.append(await api.show(created["jobId"]))
        return seen[-1]["state"] in ("complete", "failed")

    await until(over)
    return seen[-1], sum("output_config" not in sent for sent in shop.upstream.bodies)


async def test_a_refusal_without_output_owes_the_work_and_keeps_the_evaluation(shop: Shop) -> None:
    job, calls = await done(shop, answered("", "refusal", 0))
    assert (job["state"], calls) == ("failed", 1)
    assert job["refund"] == {"owedMsat": WORK, "paidMsat": 0, "payableSats": 7, "state": "owed"}
    assert "result" not in job and "costLedger" not in job


@pytest.mark.parametrize("stop_reason", ["refusal", "max_tokens"])
async def test_what_was_written_before_a_refusal_or_a_cut_is_the_result(shop: Shop, stop_reason: str) -> None:
    job, calls = await done(shop, answered(GIVEN, stop_reason, 7))
    assert (job["state"], job["result"], calls) == ("complete", GIVEN, 1)
    charged = 980 + 7 * 14
    assert (job["costLedger"]["chargedMsat"], job["refund"]["owedMsat"]) == (charged, WORK - charged)


async def test_an_empty_answer_is_tried_again_and_then_all_is_owed(shop: Shop) -> None:
    job, calls = await done(shop, answered("", "end_turn", 3))
    assert (job["state"], job["refund"], calls) == ("failed", BOTH, ATTEMPTS)


@pytest.mark.parametrize("body", [b"<html>ok</html>", b'{"usage":{"input_tokens":100,"output_tokens":9}}'])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_what_is_not_a_message_is_tried_again_and_then_all_is_owed(shop: Shop, body: bytes, kind: str) -> None:
    job, calls = await done(shop, lambda _: httpx2.Response(200, content=body, headers={"content-type": kind}))
    assert (job["state"], job["refund"], calls) == ("failed", BOTH, ATTEMPTS)


async def test_a_result_without_figures_is_charged_by_an_estimate(shop: Shop) -> None:
    content = [{"type": "text", "text": GIVEN}]
    answer = {"type": "message", "content": content, "stop_reason": "end_turn"}
    job, calls = await done(shop, lambda _: httpx2.Response(200, json=answer))
    assert (job["state"], job["result"], calls) == ("complete", GIVEN, 1)
    assert 700 < job["costLedger"]["chargedMsat"] <= WORK


def failing(status: int) -> Reply:
    return lambda _: httpx2.Response(status, json={"type": "error", "error": {"type": "x", "message": "no"}})


async def test_what_fails_before_its_first_byte_is_tried_again_and_then_all_is_owed(shop: Shop) -> None:
    job, calls = await done(shop, failing(500))
    assert (job["state"], job["refund"], calls) == ("failed", BOTH, ATTEMPTS)


async def test_a_provider_that_is_overloaded_is_waited_for_while_the_invoice_lives(shop: Shop) -> None:
    job, calls = await done(shop, failing(529))
    assert (job["state"], job["refund"]) == ("failed", BOTH) and calls > 1


async def test_a_request_that_the_provider_finds_invalid_is_sent_once_and_all_is_owed(shop: Shop) -> None:
    """Its body is ours, not the buyer's."""
    job, calls = await done(shop, failing(400))
    assert (job["state"], job["refund"], calls) == ("failed", BOTH, 1)


async def test_a_silent_model_is_asked_once_and_all_is_owed(shop: Shop) -> None:
    def silent(_: bool) -> httpx2.Response:
        raise httpx2.ReadTimeout("silent")

    job, calls = await done(shop, silent)
    assert (job["state"], job["refund"], calls) == ("failed", BOTH, 1)


async def test_an_answer_that_breaks_off_is_tried_again_and_the_whole_one_charged_once(shop: Shop) -> None:
    begun = sse(start({"input_tokens": 100, "output_tokens": 1}), block(), delta(GIVEN))
    replies: list[Reply] = [answered(GIVEN, "end_turn", 7), lambda _: streamed(begun, httpx2.ReadError("reset"))]

    def reply(stream: bool) -> httpx2.Response:
        return replies.pop()(stream)

    job, calls = await done(shop, reply)
    assert (job["state"], calls) == ("complete", 2)
    assert job["costLedger"]["chargedMsat"] == 980 + 7 * 14


async def test_an_evaluation_that_fails_for_good_owes_its_fee(shop: Shop) -> None:
    shop.upstream.reply = lambda _: httpx2.Response(500, json={"error": {"type": "x", "message": "no"}})
    created = await shop.api.create()
    await shop.api.pay(created["evalInvoice"])
    seen: list[Any] = []

    async def failed() -> bool:
        shop.api.world.offset_ms += 5_000
        seen.append(await shop.api.show(created["jobId"]))
        return bool(seen[-1]["state"] == "failed")

    await until(failed)
    assert (seen[-1]["refund"]["owedMsat"], seen[-1]["refund"]["payableSats"]) == (EVALUATION, 10)


async def test_an_evaluation_that_was_sent_and_not_answered_is_asked_for_once_and_its_fee_is_owed(shop: Shop) -> None:
    def reply(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("reset")

    shop.upstream.reply = reply
    created = await shop.api.create()
    await shop.api.pay(created["evalInvoice"])
    job = await shop.api.job_in(created["jobId"], "failed")
    assert (job["refund"]["owedMsat"], job["refund"]["payableSats"]) == (EVALUATION, 10)
    assert len(shop.upstream.bodies) == 1


async def test_a_client_that_leaves_changes_nothing_as_the_work_is_for_no_connection(shop: Shop) -> None:
    script(shop, answered(GIVEN, "end_turn", 7))
    created = await shop.api.create()
    await shop.api.pay(created["evalInvoice"])
    quoted = await shop.api.job_in(created["jobId"], "awaiting_work_payment")
    shop.upstream.gate.close()
    async with (
        httpx.AsyncClient(base_url=shop.url, timeout=20) as http,
        http.stream("GET", f"/jobs/{created['jobId']}/events") as watched,
    ):
        await anext(watched.aiter_lines())
        await shop.api.pay(quoted["workInvoice"])
        await shop.upstream.gate.wait_for_arrival()
    shop.upstream.gate.open()
    job = await shop.api.job_in(created["jobId"], "complete")
    assert (job["result"], job["costLedger"]["chargedMsat"], shop.upstream.cut) == (GIVEN, 980 + 7 * 14, 0)
