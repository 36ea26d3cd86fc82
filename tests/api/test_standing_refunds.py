"""Refunds that are paid by themselves, over HTTP: what is taken as a destination, from whom, and what is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.macaroon import attenuate
from satmeter.actors.ports import TransientError
from tests.api.test_openapi import document_of, validator_of
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, Json, api_over
from tests.helpers.lnurl_servers import FakeDestinations
from tests.helpers.webhooks import FakeWebhooks

TO = "alice@example.org"
HOOK = {"url": "https://example.org/hook", "lowBalanceSats": 1}
KEY = {"Idempotency-Key": "a-key-of-mine"}


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis, SATMETER_WEBHOOK_ALLOW="wallet.internal") as served:
        yield served


def destinations(api: Api) -> FakeDestinations:
    """The servers of the destinations."""
    return cast(FakeDestinations, api.world.destinations)


async def opened(api: Api, **body: Any) -> Json:
    """Open a session with a settled deposit, and return what the opening was answered with."""
    answer = await api.http.post("/sessions", json={"amountSats": 1_000, **body})
    assert answer.status_code == 201, answer.text
    await api.pay(answer.json()["depositInvoice"])
    return cast(Json, answer.json())


async def call(api: Api, method: str, session: Json, path: str = "", body: Json | None = None, by: str = "") -> Json:
    """Call the session with its macaroon, or with another one, and return the answer's body and status."""
    headers = {"Authorization": f"Bearer {by or session['macaroon']}"}
    url = f"/sessions/{session['sessionId']}{path}"
    answer = await api.http.request(method, url, json=body, headers=headers)
    return {**answer.json(), "status": answer.status_code}


async def refunded(api: Api, session: Json, state: str = "paid") -> Json:
    """The session's refund, once it is in this state."""
    found: list[Json] = []

    async def arrived() -> bool:
        found.append((await call(api, "GET", session))["refund"])
        return bool(found[-1]["state"] == state)

    await until(arrived)
    return found[-1]


async def test_a_closed_session_is_paid_back_to_the_address_that_its_opening_named(api: Api) -> None:
    session = await opened(api, refundTo="lightning:Alice@Example.org", webhook=HOOK)
    shown = (await call(api, "GET", session))["refund"]
    assert (shown["destination"], shown["state"]) == (TO, "none")
    closed = await call(api, "POST", session, "/close", {})
    assert closed["state"] == "closed"
    refund = await refunded(api, session)
    paid = sum(target.amount_msat.value for target in destinations(api).targets)
    assert refund["paidMsat"] == paid == 998_000 and refund["payableSats"] == 0
    assert len(api.world.lightning.payout_orders) == len(destinations(api).targets)
    sent = [msgspec.json.decode(notify.body) for notify in cast(FakeWebhooks, api.world.webhooks).sent]
    assert sum(notice["data"]["amountSats"] for notice in sent if notice["type"] == "refund.paid") == 998


async def test_a_destination_can_be_named_and_replaced_later(api: Api) -> None:
    session = await opened(api)
    first = await call(api, "PUT", session, "/refund-destination", {"refundTo": "bob@example.org"})
    assert (first["status"], first["refund"]["destination"]) == (200, "bob@example.org")
    answer = await call(api, "PUT", session, "/refund-destination", {"refundTo": TO})
    assert (answer["status"], answer["refund"]["destination"]) == (200, TO)
    validator_of(await document_of(api), "SessionStatus").validate({k: v for k, v in answer.items() if k != "status"})
    await call(api, "POST", session, "/close", {})
    api.world.offset_ms += 61_000
    await refunded(api, session)
    assert {asked.text for asked, *_ in destinations(api).asked} == {TO}


async def test_a_job_that_failed_is_paid_back_to_its_address(api: Api) -> None:
    answer = await api.http.post("/jobs", json={"request": "say hello", "refundTo": TO})
    job = answer.json()
    await api.pay(job["evalInvoice"])
    await api.pay((await api.job_in(job["jobId"], "awaiting_work_payment"))["workInvoice"])
    await api.job_in(job["jobId"], "complete")

    async def paid() -> bool:
        return bool((await api.show(job["jobId"]))["refund"]["payableSats"] == 0)

    await until(paid)
    refund = (await api.show(job["jobId"]))["refund"]
    assert refund["destination"] == TO and refund["paidMsat"] > 0
    validator_of(await document_of(api), "JobStatus").validate(await api.show(job["jobId"]))


async def test_a_destination_that_is_away_is_shown_with_the_next_attempt(api: Api) -> None:
    destinations(api).script = [TransientError("away")] * 2
    session = await opened(api, refundTo=TO)
    await call(api, "POST", session, "/close", {})

    async def failed() -> bool:
        return "lastError" in (await call(api, "GET", session))["refund"]

    await until(failed)
    shown = await call(api, "GET", session)
    refund = shown["refund"]
    assert (refund["lastError"], refund["state"], refund["owedMsat"]) == ("unreachable", "owed", 1_000_000)
    assert refund["nextAttemptAt"] > shown["expiresAt"][:4]
    validator_of(await document_of(api), "SessionStatus").validate({k: v for k, v in shown.items() if k != "status"})
    for minutes in (1, 2):
        api.world.offset_ms += minutes * 60_000 + 1_000
        await until(lambda n=minutes: _asked(api, n + 1))  # type: ignore[misc]
    await refunded(api, session)


async def _asked(api: Api, times: int) -> bool:
    return len(destinations(api).asked) >= times


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        "lno1pqqqq",
        "https://example.org/pay",
        "me@127.0.0.1",
        "me@localhost:1234",
        "me@example.org:8443",
        "me@example.onion",
        7,
        None,
    ],
)
async def test_what_nothing_can_be_paid_to_is_refused(api: Api, given: object) -> None:
    session = await opened(api)
    answers = [
        await api.http.post("/sessions", json={"amountSats": 1_000, "refundTo": given}),
        await api.http.post("/jobs", json={"request": "say hello", "refundTo": given}),
        await api.http.put(
            f"/sessions/{session['sessionId']}/refund-destination",
            json={"refundTo": given},
            headers={"Authorization": f"Bearer {session['macaroon']}"},
        ),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), answer.text
        (field,) = answer.json()["fields"]
        assert field["path"] == "refundTo" and field["message"]


async def test_an_address_that_the_operator_allows_is_taken(api: Api) -> None:
    assert (await opened(api, refundTo="me@wallet.internal"))["state"] == "awaiting_payment"


@pytest.mark.parametrize(("path", "body"), [("/sessions", {"amountSats": 1_000}), ("/jobs", {"request": "say hello"})])
async def test_the_same_key_with_another_destination_is_a_conflict(api: Api, path: str, body: Json) -> None:
    first = await api.http.post(path, json={**body, "refundTo": TO}, headers=KEY)
    again = await api.http.post(path, json={**body, "refundTo": TO.upper()}, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201) and first.json() == again.json()
    for other in ({**body, "refundTo": "bob@example.org"}, body):
        conflict = await api.http.post(path, json=other, headers=KEY)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize(
    "caveats",
    [
        ["actions = request,read,topup"],
        ["actions = close", "actions = read"],
        ["actions = read", "actions = topup", "actions = close"],
        ["max_msat = 1000000"],
        ["max_msat_per = 1000000/day"],
        ["max_msat_per_request = 1000000"],
        ["expires_at = 4000000000"],
    ],
)
async def test_a_narrowed_macaroon_can_t_redirect_the_money(api: Api, caveats: list[str]) -> None:
    session = await opened(api, refundTo=TO)
    narrowed = attenuate(session["macaroon"], caveats)
    body = {"refundTo": "thief@example.org"}
    refused = await call(api, "PUT", session, "/refund-destination", body, by=narrowed)
    assert (refused["status"], refused["code"]) == (403, "caveat_violated")
    assert (await call(api, "GET", session))["refund"]["destination"] == TO


async def test_only_a_macaroon_of_the_session_names_a_destination(api: Api) -> None:
    session, other = await opened(api, refundTo=TO), await opened(api)
    path = f"/sessions/{session['sessionId']}/refund-destination"
    nobody = await api.http.put(path, json={"refundTo": "thief@example.org"})
    assert (nobody.status_code, nobody.json()["code"]) == (401, "missing_credential")
    body = {"refundTo": "thief@example.org"}
    assert (await call(api, "PUT", session, "/refund-destination", body, by=other["macaroon"]))["status"] == 401
    assert (await call(api, "GET", session))["refund"]["destination"] == TO


async def test_a_macaroon_that_may_close_may_name_a_destination(api: Api) -> None:
    session = await opened(api)
    closer = attenuate(session["macaroon"], ["actions = close,read", "name = keeper"])
    answer = await call(api, "PUT", session, "/refund-destination", {"refundTo": TO}, by=closer)
    assert (answer["status"], answer["refund"]["destination"]) == (200, TO)
