"""Receipts over HTTP, with real actors behind it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator

import httpx
import jwt
import pytest
import pytest_asyncio
import structlog
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.macaroon import attenuate
from satmeter.scripts.receipts.receipt import check_digest, check_price, exact_json
from satmeter.scripts.receipts.usage import check_answer, check_usage
from tests.api.test_openapi import document_of, validator_of
from tests.helpers.anthropic_streams import block, delta, sse, start
from tests.helpers.anthropic_streams import error as error_event
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, Json, api_over
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    # The world's hosts know these models.
    async with api_over(redis, WORK_MODEL="sonnet", EVAL_MODEL="haiku", SATMETER_RATES=RATES) as served:
        yield served


ONE_RATE = {"input": "2", "output": "10", "cache_read": "0.1", "cache_write_5m": "2.5", "cache_write_1h": "4"}
RATES = {"sonnet": ONE_RATE, "haiku": ONE_RATE}


def bearer(macaroon: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {macaroon}"}


async def paid_session(api: Api) -> Json:
    opened: Json = (await api.http.post("/sessions", json={"amountSats": 1_000})).json()
    await api.pay(opened["depositInvoice"])
    return opened


async def ask(api: Api, opened: Json) -> Json:
    path = f"/sessions/{opened['sessionId']}/request"
    answer = await api.http.post(path, json={"request": "say hello"}, headers=bearer(opened["macaroon"]))
    assert answer.status_code == 200, answer.text
    result: Json = answer.json()
    return result


async def receipt(api: Api, opened: Json, request_id: str, macaroon: str | None = None) -> httpx.Response:
    path = f"/sessions/{opened['sessionId']}/requests/{request_id}/receipt"
    return await api.http.get(path, headers=bearer(macaroon or opened["macaroon"]))


async def verified(api: Api, answer: httpx.Response) -> Json:
    """The receipt, verified as a client without any of our code would."""
    assert answer.status_code == 200, answer.text
    keys = jwt.PyJWKSet.from_dict((await api.http.get("/.well-known/satmeter.json")).json())
    jws = answer.json()["jws"]
    told: Json = jwt.decode(jws, keys[jwt.get_unverified_header(jws)["kid"]], algorithms=["EdDSA"])
    assert told == answer.json()["receipt"]
    validator_of(await document_of(api), "SignedReceipt").validate(answer.json())
    return told


async def test_a_request_has_a_receipt_over_what_its_answer_told(api: Api) -> None:
    opened = await paid_session(api)
    result = await ask(api, opened)
    told = await verified(api, await receipt(api, opened, result["requestId"]))
    assert told["chargedMsat"] == result["debitedMsat"]
    assert told["limitMsat"] == result["costLedger"]["paidMsat"]
    ledger = await api.http.get(f"/sessions/{opened['sessionId']}/ledger", headers=bearer(opened["macaroon"]))
    (debit,) = [entry for entry in ledger.json()["entries"] if entry["kind"] == "debit"]
    assert (debit["seq"], debit["amountMsat"], debit["at"]) == (told["ledgerSeq"], told["chargedMsat"], told["at"])


async def test_a_receipt_is_the_same_to_the_byte_also_from_the_next_host(redis: Redis) -> None:
    async with api_over(redis, WORK_MODEL="sonnet", EVAL_MODEL="haiku", SATMETER_RATES=RATES) as api:
        opened = await paid_session(api)
        request_id = (await ask(api, opened))["requestId"]
        first = await receipt(api, opened, request_id)
        job = await api.complete()
        of_job = await api.http.get(f"/jobs/{job['jobId']}/receipt")
    async with api_over(redis) as api:
        assert (await receipt(api, opened, request_id)).content == first.content
        assert (await api.http.get(f"/jobs/{job['jobId']}/receipt")).content == of_job.content


async def test_a_job_has_a_receipt_when_it_has_ended(api: Api) -> None:
    job = await api.create()
    early = await api.http.get(f"/jobs/{job['jobId']}/receipt")
    assert (early.status_code, early.json()["code"], early.json()["state"]) == (
        409,
        "wrong_state",
        "awaiting_eval_payment",
    )
    done = await api.complete()
    told = await verified(api, await api.http.get(f"/jobs/{done['jobId']}/receipt"))
    assert told["chargedMsat"] == done["costLedger"]["chargedMsat"]
    assert told["costUsd"] == done["costLedger"]["actualCostUsd"]
    assert told["at"] == done["updatedAt"]


async def test_a_credential_needs_the_action_to_read(api: Api) -> None:
    opened = await paid_session(api)
    request_id = (await ask(api, opened))["requestId"]
    for actions, status in (("request", 403), ("read", 200)):
        narrowed = attenuate(opened["macaroon"], [f"actions = {actions}"])
        assert (await receipt(api, opened, request_id, narrowed)).status_code == status
    bare = await api.http.get(f"/sessions/{opened['sessionId']}/requests/{request_id}/receipt")
    assert bare.status_code == 401


async def test_what_is_no_request_of_the_session_is_not_found(api: Api) -> None:
    opened, other = await paid_session(api), await paid_session(api)
    request_id = (await ask(api, other))["requestId"]
    for unknown in (request_id, "req_unknown", "x", "req_%22", "req_" + "a" * 65):
        answer = await receipt(api, opened, unknown)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_request_under_way_has_none_yet(api: Api) -> None:
    opened = await paid_session(api)
    api.world.model.gate.close()
    path = f"/sessions/{opened['sessionId']}"

    async def held() -> bool:
        return bool((await api.http.get(path, headers=bearer(opened["macaroon"]))).json()["heldMsat"])

    asked = asyncio.create_task(
        api.http.post(f"{path}/request", json={"request": "x"}, headers=bearer(opened["macaroon"]))
    )
    await until(held)
    ledger = await api.http.get(f"{path}/ledger", headers=bearer(opened["macaroon"]))
    request_id = ledger.json()["entries"][-1]["requestId"]
    early = await receipt(api, opened, request_id)
    assert (early.status_code, early.json()["code"]) == (409, "wrong_state")
    api.world.model.gate.open()
    assert (await asked).status_code == 200
    assert (await receipt(api, opened, request_id)).status_code == 200


async def test_the_server_says_what_it_is_and_where_its_operations_are(api: Api) -> None:
    answer = await api.http.get("/.well-known/satmeter.json")
    described = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert described["endpoints"]["getJobReceipt"] == "GET /jobs/{jobId}/receipt"
    document = await document_of(api)
    validator_of(document, "WellKnown").validate(described)
    operations = {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert described["endpoints"] == operations


# Calls in the providers' protocols


async def of_last_call(shop: Shop) -> Json:
    """The receipt of the newest debit."""
    request_id = (await shop.ledger())[-1]["requestId"]
    answer = await shop.api.http.get(
        f"/sessions/{shop.session_id}/requests/{request_id}/receipt", headers=bearer(shop.key)
    )
    told = await verified(shop.api, answer)
    check_price(exact_json(answer.content)["receipt"])
    assert all("those of the provider's usage of its request req_" in said for said in check_usage(told))
    return told


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("max_tokens", [500, 10_000_000], ids=["as asked", "lowered"])
async def test_a_relayed_call_has_a_receipt_over_the_bytes_that_were_sent_and_given(
    redis: Redis, max_tokens: int, *, streamed: bool
) -> None:
    """Also where fewer tokens went on than were asked for: the client knows what it has sent, and not what went on."""
    async with shop_over(redis) as shop:
        sent = json.dumps({"model": MODEL, "max_tokens": max_tokens, "messages": HELLO, "stream": streamed}).encode()
        got = await shop.post(sent)
        assert got.status_code == 200
        given = got.content
        without = re.sub(rb',"cost_msat".*?(?=\})', b"", given)
        if streamed:
            # The comment line behind it is ours, too.
            without = without[: without.rindex(b": Satmeter-Debited-Msat")]
        told = await of_last_call(shop)
        lowered = shop.upstream.bodies[-1]["max_tokens"] != max_tokens
    assert lowered is (max_tokens != 500)
    assert told["requestSha256"] == hashlib.sha256(sent).hexdigest()
    assert told["answerSha256"] == hashlib.sha256(without).hexdigest()
    body = check_digest(told, "answerSha256", given, "answer")
    (charge,) = told["charges"]
    assert charge["step"] == "work"
    # The provider's own id and figures, to the byte.
    assert charge["provider"]["requestId"].startswith("req_stub_")
    assert ("firstUsage" in charge["provider"]) is streamed
    assert all(usage.encode() in body for usage in charge["provider"]["usage"])
    assert json.loads(charge["provider"]["usage"][-1])["output_tokens"] == charge["outputTokens"]
    check_answer(told, body)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_requests_receipt_has_the_providers_usage_of_both_calls(redis: Redis, *, streamed: bool) -> None:
    async with shop_over(redis) as shop:
        got = await shop.post({"request": "Hello", "stream": streamed}, "/ask", authorization=f"Bearer {shop.key}")
        assert got.status_code == 200, got.text
        told = await of_last_call(shop)
    judged, worked = (charge["provider"] for charge in told["charges"])
    assert len({judged["requestId"], worked["requestId"]}) == 2
    assert ("firstUsage" in judged, "firstUsage" in worked) == (False, True)


async def test_a_call_that_broke_off_has_the_usage_that_came(redis: Redis) -> None:
    """Its first figures count no answer, which is estimated; the provider's text is in the receipt and in no log."""
    async with shop_over(redis) as shop:
        begun = sse(start({"input_tokens": 40, "output_tokens": 1, "note": "free text"}), block(), delta("x" * 90))
        failed = sse(error_event("overloaded_error"))
        shop.upstream.streams(begun, failed)
        with structlog.testing.capture_logs() as logged:
            given = await shop.post({"model": MODEL, "max_tokens": 500, "messages": HELLO, "stream": True})
            told = await of_last_call(shop)
    (charge,) = told["charges"]
    first = '{"input_tokens": 40, "output_tokens": 1, "note": "free text"}'
    reported = {"requestId": "req_upstream", "firstUsage": first, "usage": [], "partial": True}
    assert charge["provider"] == {"upstream": "one", **reported}
    assert (told["state"], charge["inputTokens"]) == ("broken", 40) and charge["outputTokens"] > 1
    assert "free text" not in repr(logged)
    # Our fields in the provider's error can be told from its bytes.
    assert b"model_failed" in given.content
    assert check_digest(told, "answerSha256", given.content, "answer") == begun + failed
