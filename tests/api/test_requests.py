"""A session's requests over HTTP, whole. Actors are played (see `stubs`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.credentials.caveats import Grant, violated
from satmeter.actors.domain.errors import (
    Code,
    Refusal,
    cut_off,
    idempotency_conflict,
    in_doubt,
    model_failed,
    unavailable,
    unconfirmed,
)
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.session.messages import Ask, GetSession, TopUp, TopUpInvoice
from satmeter.actors.domain.session.state import SessionState
from satmeter.http.payments.pay_pages import PayPages
from satmeter.http.sessions import top_up_offers
from tests.api.test_openapi import validator_of
from tests.helpers.http.fronts import Json
from tests.helpers.http.stubs import COST, DONE, FOREVER, SESSION, Stubbed, answer, bearer, session_view, stubbed
from tests.helpers.jobs import BTC, invoice

ASKED = {"request": "say hello"}
STREAMED = {"request": "say hello", "stream": True}
KEY = {"Idempotency-Key": "a-key-of-mine"}


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Stubbed]:
    async with stubbed() as front:
        yield front


def insufficient(required: int, balance: int) -> Refusal:
    return Refusal(
        Code.INSUFFICIENT_BALANCE, "The balance is too low.", {"requiredMsat": required, "balanceMsat": balance}
    )


# Whole answers


async def test_an_answer_says_what_it_cost_and_what_is_left(api: Stubbed) -> None:
    api.plays(Ask, answer())
    got = await api.post("/request", ASKED)
    assert (got.status_code, got.headers["cache-control"]) == (200, "no-store")
    assert got.json() == DONE


async def test_the_actor_is_asked_with_all_that_it_needs(api: Stubbed) -> None:
    api.plays(Ask, answer())
    got = await api.post("/request", ASKED, **bearer("name = ben"))
    ((session_id, command),) = api.router.asked
    request_id = got.headers["x-request-id"]
    assert session_id == SESSION
    assert command == Ask(
        request_id=request_id,
        request="say hello",
        model="claude-sonnet-5-5",
        max_tokens=None,
        stream=False,
        once=Once(request_id, "", keyed=False),
        grant=Grant(1, spender="ben", lineage=command.grant.lineage),
        btc_price=BTC,
        tells_hold=True,
    )


async def test_model_and_length_are_the_client_s_if_it_names_them(api: Stubbed) -> None:
    api.plays(Ask, answer())
    await api.post("/request", {**ASKED, "model": "haiku", "maxTokens": 7})
    (command,) = api.router.commands(Ask)
    assert (command.model, command.max_tokens) == ("haiku", 7)


async def test_a_rejection_has_its_reason_and_no_result(api: Stubbed) -> None:
    rejected = answer(Ending.REJECTED, text="", reason="It asks for nothing.", stop_reason=None)
    api.plays(Ask, rejected)
    got = await api.post("/request", ASKED)
    body = {name: value for name, value in DONE.items() if name not in {"result", "stopReason"}}
    assert (got.status_code, got.json()) == (200, {**body, "state": "rejected", "reason": "It asks for nothing."})


async def test_an_answer_whose_client_had_left_is_complete_as_far_as_it_goes(api: Stubbed) -> None:
    api.plays(Ask, answer(Ending.LEFT, text="the an", stop_reason="cancelled"))
    assert (await api.post("/request", ASKED, **KEY)).json() == {**DONE, "result": "the an", "stopReason": "cancelled"}


async def test_one_who_left_before_anything_was_given_finds_an_empty_answer(api: Stubbed) -> None:
    api.plays(Ask, answer(Ending.LEFT, text="", stop_reason=None))
    got = (await api.post("/request", ASKED, **KEY)).json()
    assert (got["state"], got["result"], got["stopReason"]) == ("complete", "", "cancelled")


async def test_an_answer_that_broke_off_is_a_502_that_says_what_it_cost(api: Stubbed) -> None:
    api.plays(Ask, answer(Ending.BROKEN, text="the an", stop_reason="model_failed"))
    got = await api.post("/request", ASKED, **KEY)
    body = got.json()
    assert (got.status_code, body["code"], body["requestId"]) == (502, "model_failed", "req_first")
    assert (body["debitedMsat"], body["balanceMsat"]) == (4_220, 995_780)
    assert "was charged" in body["error"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (model_failed(), 502),
        (unavailable("The actors' host"), 503),
        (idempotency_conflict(), 409),
        (violated("max_msat = 5", "too much"), 403),
        (Refusal(Code.CLOSED, "closed"), 410),
        (Refusal(Code.EXPIRED, "expired"), 410),
        (Refusal(Code.INVALID_REQUEST, "No such model.", {"fields": [{"path": "model", "message": "x"}]}), 400),
    ],
)
@pytest.mark.parametrize("body", [ASKED, STREAMED])
async def test_refusals_are_plain_errors_also_of_a_stream(
    api: Stubbed, refusal: Refusal, status: int, body: Json
) -> None:
    api.plays(Ask, refusal)
    got = await api.post("/request", body)
    assert (got.status_code, got.json()["code"]) == (status, refusal.code.value)
    assert got.headers["content-type"] == "application/json"
    assert len(api.router.asked) == 1


async def test_what_may_have_been_charged_says_so_and_no_sdk_repeats_it_without_a_key(api: Stubbed) -> None:
    for refusal in (in_doubt(), unconfirmed(), cut_off()):
        api.plays(Ask, refusal)
        got = await api.post("/request", ASKED)
        assert (got.status_code, got.json()["inDoubt"], got.headers["x-should-retry"]) == (503, True, "false")
        assert got.headers["retry-after"]
    api.plays(Ask, unavailable("The store"))
    got = await api.post("/request", ASKED)
    assert "inDoubt" not in got.json() and "x-should-retry" not in got.headers


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "request"),
        ({"request": ""}, "request"),
        ({"request": " \n\t"}, "request"),
        ({"request": "x" * 100_001}, "request"),
        ({"request": 7}, "request"),
        ({**ASKED, "maxTokens": 0}, "maxTokens"),
        ({**ASKED, "maxTokens": 1.5}, "maxTokens"),
        ({**ASKED, "maxTokens": "7"}, "maxTokens"),
        ({**ASKED, "maxTokens": None}, "maxTokens"),
        ({**ASKED, "maxTokens": 10**30}, "maxTokens"),
        ({**ASKED, "model": ""}, "model"),
        ({**ASKED, "model": None}, "model"),
        ({**ASKED, "model": "x" * 201}, "model"),
        ({**ASKED, "stream": "yes"}, "stream"),
        ({**ASKED, "max_token": 7}, "max_token"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused(api: Stubbed, body: Json, path: str) -> None:
    got = await api.post("/request", body)
    assert (got.status_code, got.json()["code"]) == (400, "invalid_request")
    assert [field["path"] for field in got.json()["fields"]] == [path]
    assert api.router.asked == []


async def test_the_longest_request_is_taken(api: Stubbed) -> None:
    api.plays(Ask, answer())
    assert (await api.post("/request", {"request": "é" * 100_000})).status_code == 200


async def test_a_key_makes_equal_requests_one_and_tells_others_apart(api: Stubbed) -> None:
    api.plays(Ask, answer())
    for body in (ASKED, {**ASKED, "stream": False}, {**ASKED, "maxTokens": 7}, {"request": "say bye"}):
        await api.post("/request", body, **KEY)
    same, again, shorter, other = [command.once for command in api.router.commands(Ask)]
    assert same == again and same.keyed and len(same.digest) == 32
    assert same.name == shorter.name == other.name
    assert len({same.digest, shorter.digest, other.digest}) == 3


# What is offered to pay


@pytest.mark.parametrize(
    ("required", "balance", "sats"),
    [(150_000, 20_000, 130), (150_001, 20_000, 131), (20_001, 20_000, 100), (10**9, 0, 100_000)],
)
async def test_too_small_a_balance_is_answered_with_an_invoice_that_mends_it(
    api: Stubbed, required: int, balance: int, sats: int
) -> None:
    api.plays(Ask, insufficient(required, balance))
    api.plays(TopUp, TopUpInvoice(invoice(9, sats)))
    got = await api.post("/request", ASKED, **bearer("actions = request"))
    body = got.json()
    assert (got.status_code, body["code"]) == (402, "insufficient_balance")
    assert (body["requiredMsat"], body["balanceMsat"]) == (required, balance)
    assert body["topUpInvoice"] == {
        "paymentRequest": "lnbcrt9",
        "paymentHash": f"{9:064x}",
        "amountSats": sats,
        "expiresAt": "2027-01-15T09:00:00.000Z",
        "payPage": PayPages(api.state).url(SESSION, f"{9:064x}"),
    }
    (command,) = api.router.commands(TopUp)
    assert (command.amount_sats, command.any_open, command.once.name) == (sats, True, f"auto:{sats}")
    assert not command.once.keyed


def no_invoice_now(got: httpx.Response) -> None:
    told = got.json()
    assert (got.status_code, told["code"], got.headers["retry-after"]) == (503, "unavailable", "2")
    assert (told["requiredMsat"], told["balanceMsat"]) == (150_000, 20_000)
    assert "The balance is too small" in told["error"] and "The Lightning node can't be reached" in told["error"]
    assert "nothing was charged" in told["error"] and "topUpInvoice" not in told and "inDoubt" not in told
    assert (told["retryAction"], told["paymentState"]) == ("retry", "unused")


async def test_a_node_that_is_down_is_never_a_402(api: Stubbed) -> None:
    api.plays(Ask, insufficient(150_000, 20_000))
    api.plays(TopUp, unavailable("The Lightning node"))
    no_invoice_now(await api.post("/request", ASKED))


async def test_a_host_that_is_lost_while_it_makes_the_invoice_leaves_no_doubt_of_a_charge(api: Stubbed) -> None:
    api.plays(Ask, insufficient(150_000, 20_000))
    api.plays(TopUp, in_doubt())
    told = (await api.post("/request", ASKED)).json()
    assert told["code"] == "unavailable" and "inDoubt" not in told and told["retryAction"] == "retry"


async def test_a_session_with_too_many_invoices_is_told_to_pay_its_largest(api: Stubbed) -> None:
    api.plays(Ask, insufficient(150_000, 20_000))
    api.plays(TopUp, Refusal(Code.RATE_LIMITED, "too many", retry_after_s=60))
    pending = (invoice(1, 100), invoice(2, 120), invoice(3, 110))
    api.plays(GetSession, session_view(pending_invoices=pending))
    told = (await api.post("/request", ASKED)).json()
    assert (told["code"], told["topUpInvoice"]["amountSats"], told["retryAction"]) == (
        "insufficient_balance",
        120,
        "pay",
    )


async def test_a_session_that_closes_meanwhile_says_so(api: Stubbed) -> None:
    api.plays(Ask, insufficient(150_000, 20_000))
    api.plays(TopUp, Refusal(Code.CLOSED, "The session is closed."))
    assert (await api.post("/request", ASKED)).status_code == 410


async def test_a_slow_node_does_not_hold_the_refusal_up(api: Stubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_up_offers, "_PATIENCE_S", 0.01)
    api.plays(Ask, insufficient(150_000, 20_000))
    api.plays(TopUp, FOREVER)
    no_invoice_now(await api.post("/request", ASKED))


@pytest.mark.parametrize("body", [ASKED, STREAMED])
async def test_an_unpaid_deposit_is_shown_again(api: Stubbed, body: Json) -> None:
    api.plays(Ask, Refusal(Code.PAYMENT_REQUIRED, "Pay first."))
    api.plays(GetSession, session_view(SessionState.AWAITING_PAYMENT))
    got = await api.post("/request", body, **bearer("actions = request"))
    assert (got.status_code, got.json()["code"]) == (402, "payment_required")
    assert got.json()["depositInvoice"]["paymentHash"] == f"{7:064x}"
    # A holder who may only ask must still be able to pay.
    assert api.router.commands(GetSession) == [GetSession(Grant(1))]


async def test_without_a_pending_invoice_none_is_shown(api: Stubbed) -> None:
    api.plays(Ask, Refusal(Code.PAYMENT_REQUIRED, "Pay first."))
    api.plays(GetSession, session_view(SessionState.AWAITING_PAYMENT, pending_invoices=()))
    assert "depositInvoice" not in (await api.post("/request", ASKED)).json()


# The document


async def test_what_is_built_without_the_schema_s_model_keeps_to_it(api: Stubbed) -> None:

    document = await api.document()
    validator = validator_of(document, "RequestResult")
    free = replace(COST, usage=Usage(0, 0), debit_msat=Msat(0))
    for reply in (
        answer(),
        answer(stop_reason=None),
        answer(cost=free),
        answer(Ending.LEFT, text=""),
        answer(Ending.REJECTED, text="", reason="No.", stop_reason=None),
    ):
        api.plays(Ask, reply)
        got = (await api.post("/request", ASKED)).json()
        validator.validate(got)
        described = document["components"]["schemas"]
        assert set(got) <= set(described["RequestResult"]["properties"])
        assert set(got["costLedger"]) == set(described["CostLedger"]["properties"])
