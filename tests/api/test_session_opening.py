"""Opening sessions over HTTP, and the bounds on what nobody pays for. Actors are played (see `stubs`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.credentials.macaroon import verify
from satmeter.actors.domain.errors import idempotency_conflict, unavailable
from satmeter.actors.domain.session.messages import OpenSession, SessionCreated
from satmeter.http.payments.pay_pages import PayPages
from tests.helpers.http.fronts import MACAROON_KEY, client_of
from tests.helpers.http.stubs import SESSION, Stubbed, stubbed
from tests.helpers.jobs import START_MS, invoice

KEY = {"Idempotency-Key": "a-key-of-mine"}
DEPOSIT = invoice(5, 1_000)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Stubbed]:
    async with stubbed() as front:
        yield front


def created(session_id: str = SESSION, *, unpaid: bool = True) -> SessionCreated:
    return SessionCreated(session_id, 1, DEPOSIT, START_MS + 86_400_000, unpaid)


async def open_session(api: Stubbed, amount_sats: Any = 1_000, **headers: str) -> httpx.Response:
    return await api.http.post("/sessions", json={"amountSats": amount_sats}, headers=headers)


async def test_a_new_session_shows_its_invoice_and_a_macaroon_that_is_its_own(api: Stubbed) -> None:
    api.plays(OpenSession, created())
    answer = await open_session(api)
    ((_, command),) = api.router.asked
    body = answer.json()
    assert answer.status_code == 201
    assert body == {
        "sessionId": SESSION,
        "state": "awaiting_payment",
        "macaroon": body["macaroon"],
        "depositInvoice": {
            "paymentRequest": DEPOSIT.payment_request,
            "paymentHash": DEPOSIT.payment_hash,
            "amountSats": 1_000,
            "expiresAt": "2027-01-15T09:00:00.000Z",
            "payPage": PayPages(api.state).url(SESSION, DEPOSIT.payment_hash),
        },
        "expiresAt": "2027-01-16T08:00:00.000Z",
    }
    macaroon_id, grant = verify(MACAROON_KEY, body["macaroon"])
    assert (macaroon_id.payment_hash, macaroon_id.session_id) == (DEPOSIT.payment_hash, SESSION)
    assert grant == Grant(1)
    assert command.amount_sats == 1_000 and command.client
    assert answer.headers["location"] == f"/sessions/{SESSION}" and answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "amount", [0, -1, 99, 100_001, 10**30, "1000", 1_000.5, True, None, [1_000]], ids=lambda amount: str(amount)[:9]
)
async def test_an_amount_out_of_bounds_is_refused_and_the_bounds_are_said(api: Stubbed, amount: object) -> None:
    answer = await open_session(api, amount)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    (field,) = answer.json()["fields"]
    assert field["path"] == "amountSats"
    if type(amount) is int:
        assert field["message"] == "Must be from 100 to 100000"
    assert api.router.asked == []


@pytest.mark.parametrize("amount", [5, 20, 20.0])
async def test_the_bounds_are_the_operator_s_and_belong_to_what_is_taken(amount: object) -> None:
    async with stubbed(session_min_sats=5, session_max_sats=20) as api:
        api.plays(OpenSession, created())
        assert (await open_session(api, amount)).status_code == 201
        deposit = (await api.document())["components"]["schemas"]["Deposit"]["properties"]["amountSats"]
        assert (deposit["minimum"], deposit["maximum"]) == (5, 20)


async def test_the_same_key_leads_to_the_same_session_and_answer_and_another_one_elsewhere(api: Stubbed) -> None:
    api.plays(OpenSession, created())
    first, again = await open_session(api, **KEY), await open_session(api, **KEY)
    other = await open_session(api, **{"Idempotency-Key": "another"})
    assert (first.status_code, first.content) == (201, again.content)
    ids = [actor_id for actor_id, command in api.router.asked if isinstance(command, OpenSession)]
    assert ids[0] == ids[1] != ids[2]
    assert other.headers["location"] == f"/sessions/{SESSION}"
    async with client_of(api.app, "203.0.113.9") as stranger:
        await stranger.post("/sessions", json={"amountSats": 1_000}, headers=KEY)
    assert api.router.asked[-1][0] not in ids


async def test_without_a_key_each_session_is_a_new_one(api: Stubbed) -> None:
    api.plays(OpenSession, created())
    await open_session(api)
    await open_session(api)
    assert api.router.asked[0][0] != api.router.asked[1][0]


async def test_a_conflict_is_passed_on(api: Stubbed) -> None:
    api.plays(OpenSession, idempotency_conflict())
    answer = await open_session(api, **KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


# Limits on unpaid invoices


async def test_an_open_session_takes_the_place_of_an_unpaid_invoice(api: Stubbed) -> None:
    api.plays(OpenSession, created())
    await open_session(api)
    ((session_id, command),) = api.router.asked
    assert api.limits.reserved == [(command.client, session_id)] and api.limits.released == []


async def test_too_many_unpaid_invoices_are_refused_before_an_actor_is_asked(api: Stubbed) -> None:
    api.limits.refuse_for_s = 42
    answer = await open_session(api)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "42" and api.router.asked == []


@pytest.mark.parametrize(
    ("reply", "released"),
    [
        (created(), False),
        (created(unpaid=False), True),
        (unavailable("The Lightning node"), True),
        (idempotency_conflict(), False),
    ],
)
async def test_a_place_is_given_back_where_no_invoice_waits(api: Stubbed, reply: Any, released: bool) -> None:
    api.plays(OpenSession, reply)
    await open_session(api, **KEY)
    assert (api.limits.released == api.limits.reserved) == released
    # The actor is asked once.
    assert len(api.router.asked) == 1


async def test_with_limits_off_nothing_is_counted() -> None:
    async with stubbed(rate_limits=False) as api:
        api.plays(OpenSession, created())
        assert (await open_session(api)).status_code == 201
        assert api.limits.reserved == []
