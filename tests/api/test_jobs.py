"""Jobs over HTTP, from an unpaid invoice to a result."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.llm.answers import Verdict
from satmeter.actors.domain.pricing import Size
from satmeter.actors.ports import PermanentError, RefusedRequestError, TransientError
from satmeter.http.app import create_app
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, api_over, client_of

KEY = {"Idempotency-Key": "a-key-of-mine"}


async def test_a_new_job_shows_its_invoice_and_says_that_the_fee_is_kept(api: Api) -> None:
    answer = await api.http.post("/jobs", json={"request": "say hello"})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == {"jobId", "state", "evalInvoice", "notice"}
    assert body["state"] == "awaiting_eval_payment"
    assert set(body["evalInvoice"]) == {"paymentRequest", "paymentHash", "amountSats", "expiresAt", "payPage"}
    assert body["evalInvoice"]["amountSats"] == 10
    assert "10 sats" in body["notice"] and "kept if the request is rejected" in body["notice"]
    assert answer.headers["location"] == f"/jobs/{body['jobId']}"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_whole_job_shows_all_that_was_priced_paid_and_used(api: Api) -> None:
    job = await api.complete()
    assert job == {
        "jobId": job["jobId"],
        "state": "complete",
        "createdAt": job["createdAt"],
        "updatedAt": job["updatedAt"],
        "evalInvoice": job["evalInvoice"],
        "workInvoice": job["workInvoice"],
        "pricingBreakdown": {
            "model": "sonnet",
            "estimatedInputTokens": 300,
            "estimatedOutputTokens": 500,
            "modelCostUsd": "0.0056",
            "infraCostUsd": "0.0005",
            "estimatedCostUsd": "0.0061",
            "marginPct": 40,
            "btcPriceUsd": "100000.00",
            "btcPriceSource": "coingecko",
            "btcPriceAt": "2027-01-15T08:00:00.000Z",
            "amountSats": 9,
        },
        "result": "the answer",
        "costLedger": {
            "model": "sonnet",
            "actualInputTokens": 100,
            "actualOutputTokens": 200,
            "totalTokens": 300,
            "cacheReadTokens": 0,
            "cacheWriteTokens": 0,
            "actualCostUsd": "0.0027",
            "chargedMsat": 3_780,
            "paidMsat": 9_000,
            "refundMsat": 5_220,
        },
        "refund": {"owedMsat": 5_220, "paidMsat": 0, "payableSats": 3, "state": "owed"},
    }
    assert job["workInvoice"]["amountSats"] == job["pricingBreakdown"]["amountSats"]
    assert job["createdAt"] < job["updatedAt"] and job["updatedAt"].endswith("Z")


async def test_a_job_has_only_the_fields_of_its_state(api: Api) -> None:
    always = {"jobId", "state", "createdAt", "updatedAt", "evalInvoice"}
    job_id = (await api.create())["jobId"]
    job = await api.show(job_id)
    assert set(job) == always
    await api.pay(job["evalInvoice"])
    priced = await api.job_in(job_id, "awaiting_work_payment")
    assert set(priced) == always | {"workInvoice", "pricingBreakdown"}


async def test_a_rejected_job_says_why_and_owes_nothing(api: Api) -> None:
    api.world.model.verdict = Verdict(False, "It asks for nothing.", Size.SMALL)
    job = await api.create()
    await api.pay(job["evalInvoice"])
    rejected = await api.job_in(job["jobId"], "rejected")
    assert rejected["reason"] == "It asks for nothing."
    assert set(rejected) == {"jobId", "state", "createdAt", "updatedAt", "evalInvoice", "reason"}


@pytest.mark.parametrize(
    ("error", "refund"),
    [
        (PermanentError("a text of the provider"), {"owedMsat": 19_000, "payableSats": 19}),
        (RefusedRequestError("a text of the provider"), {"owedMsat": 9_000, "payableSats": 7}),
    ],
)
async def test_a_failed_job_says_so_and_owes_what_was_paid_for_the_work(
    error: PermanentError, refund: dict[str, int], api: Api
) -> None:
    job = await api.create()
    await api.pay(job["evalInvoice"])
    priced = await api.job_in(job["jobId"], "awaiting_work_payment")
    api.world.model.faults.append(error)
    await api.pay(priced["workInvoice"])
    failed = await api.job_in(job["jobId"], "failed")
    assert failed["errorMessage"].startswith("The model ") and "text of the provider" not in failed["errorMessage"]
    assert failed["refund"] == {**refund, "paidMsat": 0, "state": "owed"}
    assert "result" not in failed and "costLedger" not in failed


async def test_an_unpaid_job_expires(api: Api) -> None:
    job = await api.create()
    api.world.offset_ms = 62_000
    assert (await api.job_in(job["jobId"], "expired"))["state"] == "expired"


async def test_the_margin_is_an_exact_number_and_no_string(redis: Redis) -> None:
    margin = "12.345678"
    async with api_over(redis, margin_pct=Decimal(margin)) as api:
        assert f'"marginPct":{margin},' in (await api.http.get("/pricing")).text


# Idempotency


async def test_the_same_key_and_body_give_the_same_bytes_even_after_the_job_moved_on(api: Api) -> None:
    first = await api.http.post("/jobs", json={"request": "say hello"}, headers=KEY)
    await api.pay(first.json()["evalInvoice"])
    await api.job_in(first.json()["jobId"], "awaiting_work_payment")
    again = await api.http.post("/jobs", json={"request": "say hello"}, headers=KEY)
    assert again.status_code == 201
    assert again.content == first.content
    assert len(api.world.model.evaluated) == 1


async def test_the_same_key_leads_to_the_same_job_after_a_crash(redis: Redis) -> None:
    async with api_over(redis) as api:
        first = await api.create(**KEY)
    async with api_over(redis) as api:
        assert await api.create(**KEY) == first
        assert api.world.lightning.orders == {}


async def test_the_same_key_with_another_body_is_a_conflict(api: Api) -> None:
    await api.create(**KEY)
    answer = await api.http.post("/jobs", json={"request": "another"}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


async def test_the_same_key_of_another_client_is_another_job(api: Api) -> None:
    mine = await api.create(**KEY)
    async with client_of(api.app, "203.0.113.9") as other:
        theirs = await other.post("/jobs", json={"request": "say hello"}, headers=KEY)
    assert theirs.json()["jobId"] != mine["jobId"]


async def test_without_a_key_each_request_is_a_job_of_its_own(api: Api) -> None:
    assert (await api.create())["jobId"] != (await api.create())["jobId"]


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "tab\there", "café"])
async def test_a_key_must_be_visible_ascii_of_bounded_length(api: Api, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = await api.http.post("/jobs", json={"request": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["fields"][0]["path"] == "Idempotency-Key"


async def test_two_keys_are_one_too_many(api: Api) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await api.http.post("/jobs", json={"request": "x"}, headers=headers)).status_code == 400


@pytest.mark.parametrize("key", ["!", "~" * 255])
async def test_the_shortest_and_the_longest_key_are_taken(api: Api, key: str) -> None:
    assert (await api.create(**{"Idempotency-Key": key}))["jobId"]


# Limits


async def test_a_client_has_so_many_unpaid_invoices_and_no_more_until_one_is_paid(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=2, invoice_expiry_s=60) as api:
        first, _ = await api.create(), await api.create()
        refused = await api.http.post("/jobs", json={"request": "x"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 55 <= int(refused.headers["retry-after"]) <= 60
        async with client_of(api.app, "203.0.113.9") as other:
            assert (await other.post("/jobs", json={"request": "x"})).status_code == 201
        await api.pay(first["evalInvoice"])

        async def fits() -> bool:
            return (await api.http.post("/jobs", json={"request": "x"})).status_code == 201

        await until(fits)


async def test_a_repeated_request_does_not_count_twice_nor_does_a_paid_one(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1) as api:
        job = await api.create(**KEY)
        assert await api.create(**KEY) == job
        await api.pay(job["evalInvoice"])
        assert await api.create(**KEY) == job
        assert await api.create("another")


async def test_a_conflict_does_not_give_back_the_open_invoice_s_place(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1) as api:
        await api.create(**KEY)
        assert (await api.http.post("/jobs", json={"request": "y"}, headers=KEY)).status_code == 409
        assert (await api.http.post("/jobs", json={"request": "z"})).status_code == 429


async def test_the_text_of_unpaid_jobs_is_kept_up_to_a_bound_of_bytes(redis: Redis) -> None:
    text = "\u20bf" * 60_000  # of three bytes each
    async with api_over(redis, unpaid_bytes_per_ip=524_288) as api:
        jobs = [await api.create(f"{number} {text}") for number in range(2)]
        refused = await api.http.post("/jobs", json={"request": f"3 {text}"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert "524288 bytes" in refused.json()["error"]
        assert await api.create("a small one")
        await api.pay(jobs[0]["evalInvoice"])

        async def fits() -> bool:
            return (await api.http.post("/jobs", json={"request": f"3 {text}"})).status_code == 201

        await until(fits)


async def test_all_strangers_together_fill_the_store_up_to_a_bound(redis: Redis) -> None:
    async with api_over(redis, unpaid_max_bytes=1_048_576) as api:
        stored = await redis.info("memory")
        statuses = []
        for number in range(30):
            headers = {"Idempotency-Key": str(number)}
            async with client_of(api.app, f"203.0.113.{number}") as stranger:
                answer = await stranger.post("/jobs", json={"request": "x" * 100_000}, headers=headers)
                statuses.append(answer.status_code)
        assert statuses == [201] * 10 + [503] * 20
        assert (await redis.info("memory"))["used_memory"] - stored["used_memory"] < 4_000_000
        # Those that pay little are not kept from buying by those that send much.
        assert await api.create("a small one")
        assert (await api.http.post("/sessions", json={"amountSats": 100})).status_code == 201


async def test_the_64s_of_one_48_share_the_bytes_of_four(redis: Redis) -> None:
    async with api_over(redis, unpaid_bytes_per_ip=524_288) as api:
        created = 0
        for number in range(8):
            async with client_of(api.app, f"2001:db8:1:{number}::1") as stranger:
                for _ in range(6):
                    answer = await stranger.post("/jobs", json={"request": "x" * 100_000})
                    created += answer.status_code == 201
        assert created == 4 * 524_288 // 102_048


async def test_with_limits_off_nothing_is_counted(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1, rate_limits=False) as api:
        await api.create()
        assert await api.create()


async def test_clients_behind_a_trusted_proxy_are_told_apart(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1, trusted_proxies="198.51.100.0/24") as api:
        await api.create(**{"X-Forwarded-For": "203.0.113.1"})
        await api.create(**{"X-Forwarded-For": "203.0.113.2"})
        headers = {"X-Forwarded-For": "10.0.0.1, 203.0.113.1"}
        assert (await api.http.post("/jobs", json={"request": "x"}, headers=headers)).status_code == 429


async def test_an_untrusted_client_can_t_pose_as_many(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1) as api:
        await api.create(**{"X-Forwarded-For": "203.0.113.1"})
        headers = {"X-Forwarded-For": "203.0.113.2"}
        assert (await api.http.post("/jobs", json={"request": "x"}, headers=headers)).status_code == 429


# Faults


async def test_a_node_that_is_down_is_a_503_which_costs_no_place(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1) as api:
        api.world.lightning.fault = TransientError("connection refused at 10.1.2.3")
        answer = await api.http.post("/jobs", json={"request": "x"}, headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "10.1.2.3" not in answer.text
        api.world.lightning.fault = None
        assert await api.create("another")


async def test_a_slow_node_delays_no_other_answer(api: Api) -> None:
    job = await api.create()
    await api.world.lightning.gate.wait_for_arrival()
    api.world.lightning.gate.close()
    await api.pay(job["evalInvoice"])
    await api.world.lightning.gate.wait_for_arrival()
    assert (await api.show(job["jobId"]))["state"] == "evaluating"
    api.world.lightning.gate.open()
    await api.job_in(job["jobId"], "awaiting_work_payment")


async def test_a_model_that_is_overloaded_for_a_moment_only_delays_the_job(api: Api) -> None:
    api.world.model.faults.append(TransientError("overloaded", retry_after_s=0.0))
    job = await api.create()
    await api.pay(job["evalInvoice"])
    await api.job_in(job["jobId"], "awaiting_work_payment")
    assert len(api.world.model.evaluated) == 2


async def test_limits_that_can_t_be_read_refuse_rather_than_let_all_through(api: Api) -> None:
    class Down:
        async def reserve(self, *args: object) -> int | None:
            raise TransientError("no connection to 10.1.2.3")

        hit = release = hold_bytes = reserve

    state = replace(api.state, limits=Down())  # type: ignore[arg-type]
    async with client_of(create_app(state)) as http:
        for answer in (await http.post("/jobs", json={"request": "x"}), await http.get("/demo?request=x")):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "10.1.2.3" not in answer.text
    assert api.world.lightning.orders == {}


@pytest.mark.parametrize(
    "job_id",
    ["job_", "job_short", f"ses_{'a' * 32}", "a" * 36, f"job_{'a' * 33}", f"job_{'a' * 31}%2F", f"job_{'a' * 32}%0A"],
)
@pytest.mark.parametrize("path", ["/jobs/{}", "/jobs/{}/events"])
async def test_an_id_that_can_t_be_ours_is_not_found_and_troubles_no_actor(api: Api, path: str, job_id: str) -> None:
    await api.state.router.close()  # now it refuses every call with a 503
    answer = await api.http.get(path.format(job_id))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_unknown_job_is_not_found(api: Api) -> None:
    answer = await api.http.get(f"/jobs/job_{'a' * 32}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_duplicate_payment_changes_nothing(api: Api) -> None:
    job = await api.complete()
    await api.pay(job["workInvoice"])
    await api.pay(job["evalInvoice"])
    assert await api.show(job["jobId"]) == job


async def test_an_invoice_paid_after_its_expiry_is_honoured(api: Api) -> None:
    job = await api.create()
    api.world.offset_ms = 62_000
    await api.job_in(job["jobId"], "expired")
    await api.pay(job["evalInvoice"])
    assert (await api.job_in(job["jobId"], "awaiting_work_payment"))["workInvoice"]


async def test_answers_to_head_have_the_headers_of_the_answer_to_get(api: Api) -> None:
    job = await api.create()
    answer = await api.http.head(f"/jobs/{job['jobId']}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (await api.http.head(f"/jobs/job_{'b' * 32}")).status_code == 404
