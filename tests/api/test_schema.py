"""Answers that are hard to come by, good and bad, keep to the document too: status, kind, headers and body."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio
import schemathesis
from redis.asyncio import Redis
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from satmeter.actors.domain.llm.answers import Verdict
from satmeter.actors.domain.pricing import Size
from satmeter.actors.ports import PermanentError, TransientError
from satmeter.http.app import create_app
from tests.helpers.http.fronts import Api, api_over, client_of
from tests.helpers.http.stubs import SESSION

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
UNKNOWN_JOB = f"job_{'a' * 32}"


class Document:
    """The document of a front, and whether an answer keeps to it."""

    def __init__(self, schema: BaseSchema) -> None:
        self._schema = schema

    def holds(self, answer: httpx.Response, status: int, method: str, path: str) -> None:
        """Fails unless the answer has this status and is what the document says of it."""
        assert answer.status_code == status, answer.text
        named = {"jobId": UNKNOWN_JOB, "sessionId": SESSION}
        case = self._schema[path][method].Case(path_parameters=named)
        case.validate_response(answer, checks=CHECKS)


@pytest_asyncio.fixture
async def document(api: Api) -> Document:
    schema = schemathesis.openapi.from_dict((await api.http.get("/openapi.json")).json())
    return Document(schema)


async def test_the_whole_document_is_what_openapi_3_1_allows(api: Api) -> None:
    raw = (await api.http.get("/openapi.json")).json()
    schemathesis.openapi.from_dict(raw).validate()


async def test_a_rejected_job_keeps_to_the_document(api: Api, document: Document) -> None:
    api.world.model.verdict = Verdict(False, "this is against the rules", Size.SMALL)
    job = await api.create()
    await api.pay(job["evalInvoice"])
    await api.job_in(job["jobId"], "rejected")
    document.holds(await api.http.get(f"/jobs/{job['jobId']}"), 200, "GET", "/jobs/{jobId}")


async def test_a_failed_job_keeps_to_the_document_and_says_what_is_owed(api: Api, document: Document) -> None:
    job = await api.create()
    await api.pay(job["evalInvoice"])
    priced = await api.job_in(job["jobId"], "awaiting_work_payment")
    api.world.model.faults.append(PermanentError("the provider said no"))
    await api.pay(priced["workInvoice"])
    failed = await api.job_in(job["jobId"], "failed")
    assert failed["refund"]["owedMsat"] > 0
    document.holds(await api.http.get(f"/jobs/{job['jobId']}"), 200, "GET", "/jobs/{jobId}")


async def test_an_expired_job_keeps_to_the_document(api: Api, document: Document) -> None:
    job = await api.create()
    api.world.offset_ms += 3_600_000
    await api.job_in(job["jobId"], "expired")
    document.holds(await api.http.get(f"/jobs/{job['jobId']}"), 200, "GET", "/jobs/{jobId}")


async def test_the_events_of_a_finished_job_keep_to_the_document(api: Api, document: Document) -> None:
    path = f"/jobs/{(await api.complete())['jobId']}/events"
    answer = await api.http.get(path)
    document.holds(answer, 200, "GET", "/jobs/{jobId}/events")
    identity = next(line for line in answer.text.splitlines() if line.startswith("id: "))[4:]
    again = await api.http.get(path, headers={"Last-Event-ID": identity})
    document.holds(again, 204, "GET", "/jobs/{jobId}/events")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {}, 400),
        (b'{"request":"another"}', {"Idempotency-Key": "taken"}, 409),
        (b'{"request":"a"}', {"Content-Type": "text/plain"}, 415),
        (b"x" * 1_100_000, {}, 413),
    ],
)
async def test_refusals_of_a_new_job_keep_to_the_document(
    api: Api, document: Document, body: bytes, headers: dict[str, str], status: int
) -> None:
    await api.create(**{"Idempotency-Key": "taken"})
    document.holds(await api.http.post("/jobs", content=body, headers=headers), status, "POST", "/jobs")


async def test_refusals_for_too_much_keep_to_the_document(redis: Redis, document: Document) -> None:
    async with api_over(redis, demo_per_hour=1, unpaid_per_ip=1) as api:
        await api.create()
        await api.http.get("/demo?request=x")
        document.holds(await api.http.post("/jobs", json={"request": "b"}), 429, "POST", "/jobs")
        document.holds(await api.http.get("/demo?request=x"), 429, "GET", "/demo")


async def test_a_model_that_fails_for_good_keeps_to_the_document(api: Api, document: Document) -> None:
    api.world.model.faults.append(PermanentError("the provider said no"))
    document.holds(await api.http.get("/demo?request=x"), 502, "GET", "/demo")


async def test_outages_keep_to_the_document(api: Api, document: Document) -> None:
    class Away:
        async def call(self, *_: object) -> None:
            raise TransientError("nobody there")

    async def unreachable() -> None:
        raise TransientError("nobody there")

    state = replace(api.state, router=Away(), checks={"store": unreachable})  # type: ignore[arg-type]
    async with client_of(create_app(state)) as http:
        document.holds(await http.get("/readyz"), 503, "GET", "/readyz")
        document.holds(await http.post("/jobs", json={"request": "a"}), 503, "POST", "/jobs")
        document.holds(await http.get(f"/jobs/{UNKNOWN_JOB}"), 503, "GET", "/jobs/{jobId}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: {**body, "state": "sleeping"},
        lambda body: {**body, "createdAt": 7},
        lambda body: {name: value for name, value in body.items() if name != "jobId"},
    ],
)
async def test_an_answer_that_strays_from_the_document_is_noticed(
    api: Api, document: Document, spoil: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    good = await api.http.get(f"/jobs/{(await api.create())['jobId']}")
    document.holds(good, 200, "GET", "/jobs/{jobId}")
    content = json.dumps(spoil(good.json())).encode()
    bad = httpx.Response(200, headers=good.headers, content=content, request=good.request)
    bad.elapsed = good.elapsed
    with pytest.raises(FailureGroup):
        document.holds(bad, 200, "GET", "/jobs/{jobId}")
