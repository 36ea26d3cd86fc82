"""Webhooks over HTTP: what is taken, what is told of the secret, and that they are part of a body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.webhooks import secret_of
from tests.api.test_openapi import document_of, validator_of
from tests.helpers.http.fronts import WEBHOOK_KEY, Api, api_over
from tests.helpers.webhooks import FakeWebhooks

URL = "https://example.org/hook"
JOB = {"request": "say hello", "webhook": {"url": URL}}
SESSION = {"amountSats": 1_000, "webhook": {"url": URL, "lowBalanceSats": 100}}
KEY = {"Idempotency-Key": "a-key-of-mine"}


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis, SATMETER_WEBHOOK_ALLOW="receiver.internal") as served:
        yield served


@pytest.mark.parametrize(
    ("path", "body", "schema", "named"),
    [("/jobs", JOB, "JobCreated", "jobId"), ("/sessions", SESSION, "SessionOpened", "sessionId")],
)
async def test_the_answer_holds_the_secret_of_this_very_webhook(
    api: Api, path: str, body: dict[str, Any], schema: str, named: str
) -> None:
    answer = await api.http.post(path, json=body, headers=KEY)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["webhook"] == {**body["webhook"], "secret": secret_of(WEBHOOK_KEY, made[named])}
    validator_of(await document_of(api), schema).validate(made)
    again = await api.http.post(path, json=body, headers=KEY)
    assert (again.status_code, again.json()) == (201, made)
    for other in ({**body, "webhook": {**body["webhook"], "url": URL + "2"}}, {**body}):
        if other == body:
            del other["webhook"]
        conflict = await api.http.post(path, json=other, headers=KEY)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


async def test_a_job_that_is_paid_through_tells_its_webhook(api: Api) -> None:
    job = (await api.http.post("/jobs", json=JOB)).json()
    await api.pay(job["evalInvoice"])
    await api.pay((await api.job_in(job["jobId"], "awaiting_work_payment"))["workInvoice"])
    status = await api.job_in(job["jobId"], "complete")
    assert "webhook" not in status
    sent = cast(FakeWebhooks, api.world.webhooks).sent
    assert {notify.url for notify in sent} == {URL}


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "https://127.0.0.1/", "https://[::1]/", "https://example.org:8443/", "https://a@b.c/", "x"],
)
@pytest.mark.parametrize(("path", "body"), [("/jobs", JOB), ("/sessions", SESSION)])
async def test_an_address_that_nothing_may_be_sent_to_is_refused(
    api: Api, path: str, body: dict[str, Any], url: str
) -> None:
    answer = await api.http.post(path, json={**body, "webhook": {**body["webhook"], "url": url}})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    (field,) = answer.json()["fields"]
    assert field["path"] == "webhook.url"
    assert field["message"].startswith("Must ")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {**JOB, "webhook": None}),
        ("/jobs", {**JOB, "webhook": {}}),
        ("/jobs", {**JOB, "webhook": {"url": URL, "secret": "mine"}}),
        ("/jobs", {**JOB, "webhook": URL}),
        ("/sessions", {**SESSION, "webhook": {"url": URL}}),
        ("/sessions", {**SESSION, "webhook": {"url": URL, "lowBalanceSats": 0}}),
        ("/sessions", {**SESSION, "webhook": {"url": URL, "lowBalanceSats": 1.5}}),
        ("/sessions", {**SESSION, "webhook": {"url": URL, "lowBalanceSats": 10**12}}),
    ],
)
async def test_what_does_not_fit_is_refused(api: Api, path: str, body: dict[str, Any]) -> None:
    answer = await api.http.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["fields"][0]["path"].startswith("webhook")


async def test_what_the_operator_allows_is_taken(api: Api) -> None:
    body = {**JOB, "webhook": {"url": "http://receiver.internal:8080/hook"}}
    assert (await api.http.post("/jobs", json=body)).status_code == 201
