"""Paying back what is owed, over HTTP: closing a session, and a job's refund. Actors are played (see `stubs`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from msgspec.structs import replace as replace_struct

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.errors import Code, Refusal, wrong_state
from satmeter.actors.domain.job.state import JobState, JobView, PlanJobPayout, RefundJob
from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.destinations import DestinationFault, encoded, read_destination
from satmeter.actors.domain.payments.payout_plan import PayoutPlan
from satmeter.actors.domain.payments.payouts import PayoutTarget, RefundState, RefundView, refund_pending
from satmeter.actors.domain.session.messages import CloseSession, PlanPayout
from satmeter.actors.domain.session.state import SessionState
from satmeter.actors.ports import DestinationError, TransientError
from satmeter.http.app import create_app
from satmeter.http.payments import refunds
from satmeter.http.payments.refunds import PayoutOrder, Refunds
from tests.helpers.http.fronts import client_of, signed_invoice
from tests.helpers.http.stubs import FOREVER, SESSION, Stubbed, bearer, session_view, stubbed
from tests.helpers.jobs import JOB_ID, START_MS, invoice

START_S = START_MS // 1_000
MINE = signed_invoice(9_000, START_S)
REAL_WALLET: dict[str, Any] = {"lnbits_url": "http://127.0.0.1:1", "lnbits_invoice_key": "k"}
KEY = {"Idempotency-Key": "a-key-of-mine"}
TARGETS = ["close", "refund"]


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Stubbed]:
    async with stubbed() as front:
        plays_well(front)
        yield front


def job_view() -> JobView:
    return JobView(
        job_id=JOB_ID,
        state=JobState.FAILED,
        created_at_ms=START_MS,
        updated_at_ms=START_MS,
        eval_invoice=invoice(1, 10),
        work_invoice=invoice(2, 9),
        reason=None,
        result=None,
        error_message="It failed.",
        breakdown=None,
        ledger=None,
        refund=RefundView(ZERO, Msat(9_000), RefundState.PAID),
    )


def plays_well(front: Stubbed) -> None:
    refund = RefundView(Msat(1_000), Msat(9_000), RefundState.PAID)
    front.plays(CloseSession, session_view(SessionState.CLOSED, refund=refund))
    front.plays(RefundJob, job_view())


async def pay_out(
    front: Stubbed, what: str, payment_request: object, *, sats: object = None, **headers: str
) -> httpx.Response:
    body = {"paymentRequest": payment_request, **({} if sats is None else {"amountSats": sats})}
    if what == "close":
        return await front.post("/close", body, **headers)
    return await front.http.post(f"/jobs/{JOB_ID}/refund", json=body, headers=headers)


@pytest.mark.parametrize("what", TARGETS)
async def test_what_is_owed_goes_to_the_client_s_invoice(api: Stubbed, what: str) -> None:
    answer = await pay_out(api, what, MINE.payment_request)
    assert answer.status_code == 200
    assert answer.json()["refund"]["state"] == "paid" and answer.json()["refund"]["paidMsat"] == 9_000
    ((actor_id, command),) = api.router.asked
    assert actor_id == (SESSION if what == "close" else JOB_ID)
    assert command.target == PayoutTarget(MINE.payment_request, MINE.payment_hash, Msat(9_000))
    assert (command.once.name, command.once.keyed) == (answer.headers["x-request-id"], False)


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize(
    "text",
    [
        MINE.payment_request.upper(),
        f"lightning:{MINE.payment_request}",
        f"LIGHTNING://{MINE.payment_request.upper()}",
        f" \t{MINE.payment_request}\n",
        f"{MINE.payment_request[:60]}\r\n  {MINE.payment_request[60:]}",
        f"bitcoin:bc1qexample?amount=0.00000009&lightning={MINE.payment_request}",
        f"BITCOIN:BC1QEXAMPLE?LIGHTNING={MINE.payment_request.upper()}",
        f"bitcoin:?lightning={MINE.payment_request}",
    ],
)
async def test_an_invoice_is_taken_as_wallets_write_it(api: Stubbed, what: str, text: str) -> None:
    assert (await pay_out(api, what, text)).status_code == 200
    assert api.router.asked[0][1].target.payment_request == MINE.payment_request


@pytest.mark.parametrize("what", TARGETS)
async def test_a_key_makes_equal_payouts_one(api: Stubbed, what: str) -> None:
    other = signed_invoice(8_000, START_S)
    for text in (MINE.payment_request, MINE.payment_request, other.payment_request):
        await pay_out(api, what, text, **KEY)
    same, again, different = [command.once for _, command in api.router.asked]
    assert same == again and same.keyed
    assert different.name == same.name and different.digest != same.digest


@pytest.mark.parametrize("body", [None, {}])
async def test_a_session_can_be_closed_without_an_invoice(api: Stubbed, body: object) -> None:
    answer = await api.post("/close", body)
    assert (answer.status_code, answer.json()["state"]) == (200, "closed")
    (command,) = api.router.commands(CloseSession)
    assert command.target is None and command.grant == Grant(1)


async def test_the_body_of_nothing_may_have_any_type(api: Stubbed) -> None:
    headers = {**bearer(), "Content-Type": "application/x-www-form-urlencoded"}
    assert (await api.http.post(f"/sessions/{SESSION}/close", headers=headers)).status_code == 200


def _garbage() -> dict[str, object]:
    return {
        "empty": "",
        "no invoice": "lnbc1",
        "a wrong address": "anna@wallet",
        "a mistyped LNURL": encoded("https://wallet.example/x")[:-1],
        "a changed letter": MINE.payment_request[:-1] + ("q" if MINE.payment_request[-1] != "q" else "p"),
        "long": "lnbc" + "q" * 5_000,
        "no text": 7,
        "null": None,
        "other letters": "lnbc\u2028é😀",
        "half a sat": signed_invoice(9_500, START_S).payment_request,
        "expired": signed_invoice(9_000, START_S - 3_601).payment_request,
        "about to expire": signed_invoice(9_000, START_S, expiry_s=29).payment_request,
    }


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize("name", _garbage())
async def test_what_can_t_be_paid_to_is_refused_and_troubles_no_actor(api: Stubbed, what: str, name: str) -> None:
    answer = await pay_out(api, what, _garbage()[name])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [field["path"] for field in answer.json()["fields"]] == ["paymentRequest"]
    assert api.router.asked == []


@pytest.mark.parametrize("what", TARGETS)
async def test_an_invoice_that_is_valid_for_just_long_enough_is_paid_to(api: Stubbed, what: str) -> None:
    assert (await pay_out(api, what, signed_invoice(9_000, START_S, expiry_s=30).payment_request)).status_code == 200


@pytest.mark.parametrize("what", TARGETS)
async def test_an_invoice_without_an_amount_is_refused(api: Stubbed, what: str) -> None:
    text = sign_invoice(
        "11" * 32,
        payment_hash="ab" * 32,
        payment_secret="22" * 32,
        amount_msat=ZERO,
        memo="refund",
        at_s=START_S,
        expiry_s=600,
    )
    answer = await pay_out(api, what, text)
    assert answer.status_code == 400 and "no amount" in answer.json()["error"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("anna@wallet", "not a Lightning address"),
        ("lightning:anna @wallet.example", "not a Lightning address"),
        ("LNURL1DP68GURN8GHJ7", "an LNURL"),
        ("lnurlw://wallet.example/x", "not for being paid"),
        ("https://wallet.example/x", "a web address"),
        ("anna@wallet.onion", "the Tor network"),
        ("lno1pqps7sjqpgtyzm3qv4uxzmtsd3jjqer9wd3hy6tsw35k7msjzfpy7nz5yqcnygrfdej82um5wf5k2uckyypwa3eyt44", "BOLT12"),
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "address on the chain"),
        ("bitcoin:bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq?amount=1", "address on the chain"),
    ],
)
async def test_what_is_taken_for_an_invoice_is_told_by_its_name(api: Stubbed, text: str, told: str) -> None:
    answer = await pay_out(api, "refund", text)
    assert answer.status_code == 400 and told in answer.json()["error"]


@pytest.mark.parametrize("what", TARGETS)
async def test_a_payout_that_takes_long_is_425_and_goes_on(
    api: Stubbed, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunds, "PATIENCE_S", 0.01)
    api.plays(CloseSession, FOREVER)
    api.plays(RefundJob, FOREVER)
    answer = await pay_out(api, what, MINE.payment_request)
    assert (answer.status_code, answer.json()["code"]) == (425, "refund_pending")
    assert answer.headers["retry-after"] == "5"


async def test_closing_without_an_invoice_waits_for_no_payout(api: Stubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refunds, "PATIENCE_S", 0.0)
    assert (await api.post("/close")).status_code == 200


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (refund_pending(), 425),
        (wrong_state("complete", "Nothing is owed."), 409),
        (Refusal(Code.INVALID_REQUEST, "Too much.", {"fields": [], "maxSats": 8}), 400),
    ],
)
async def test_what_the_actor_refuses_is_passed_on(api: Stubbed, what: str, refusal: Refusal, status: int) -> None:
    api.plays(CloseSession, refusal)
    api.plays(RefundJob, refusal)
    answer = await pay_out(api, what, MINE.payment_request)
    assert (answer.status_code, answer.json()["code"]) == (status, refusal.code.value)
    assert {name: answer.json()[name] for name in refusal.details} == refusal.details


@pytest.mark.parametrize("what", TARGETS)
async def test_without_an_admin_key_nothing_is_begun_that_can_t_be_ended(what: str) -> None:
    async with stubbed(**REAL_WALLET) as api:
        plays_well(api)
        answer = await pay_out(api, what, MINE.payment_request)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "LNBITS_ADMIN_KEY" in answer.json()["error"] and "stays owed" in answer.json()["error"]
        assert int(answer.headers["retry-after"]) > 0
        assert api.router.asked == []
        assert (await api.post("/close")).status_code == 200, "closing needs no payout"
    async with stubbed(**REAL_WALLET, lnbits_admin_key="a") as api:
        plays_well(api)
        assert (await pay_out(api, what, MINE.payment_request)).status_code == 200


async def test_the_stub_node_s_invoices_can_be_paid_out_to(api: Stubbed) -> None:
    made = (await api.http.post("/dev/stub/invoice", json={"amountSats": 250})).json()
    assert (await pay_out(api, "refund", made["paymentRequest"])).status_code == 200
    assert api.router.asked[0][1].target.amount_msat == Msat(250_000)


# Destinations

ADDRESS = "anna@wallet.example"
CODE = encoded("https://wallet.example/pay?x=1")


def plans(front: Stubbed, *replies: object) -> None:
    for command in (PlanPayout, PlanJobPayout):
        front.plays(command, *replies)


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize(
    "text", [ADDRESS, f"lightning:{ADDRESS.upper()}", CODE.upper(), "lnurlp://wallet.example/pay?x=1"]
)
async def test_a_destination_is_asked_for_an_invoice_over_all_that_is_payable(
    api: Stubbed, what: str, text: str
) -> None:
    plans(api, PayoutPlan(Msat(9_000), "bcrt"))
    answer = await pay_out(api, what, text, **KEY)
    assert (answer.status_code, answer.json()["refund"]["state"]) == (200, "paid")
    ((asked, amount_msat, network),) = api.destinations.asked
    assert asked == read_destination(text) and (amount_msat, network) == (Msat(9_000), "bcrt")
    planned, paid = [command for _, command in api.router.asked]
    assert planned.once == paid.once and planned.amount_msat is None
    assert paid.target == api.destinations.targets[0]


@pytest.mark.parametrize("what", TARGETS)
async def test_the_client_may_name_the_sum(api: Stubbed, what: str) -> None:
    plans(api, PayoutPlan(Msat(5_000), "bcrt"))
    assert (await pay_out(api, what, ADDRESS, sats=5)).status_code == 200
    assert api.router.asked[0][1].amount_msat == Msat(5_000)
    assert api.destinations.asked[0][1] == Msat(5_000)


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize("sats", [0, -1, 1.5, "5", 10**9])
async def test_a_sum_that_is_none_is_refused(api: Stubbed, what: str, sats: object) -> None:
    answer = await pay_out(api, what, ADDRESS, sats=sats)
    assert answer.status_code == 400 and answer.json()["fields"][0]["path"] == "amountSats"
    assert api.router.asked == []


@pytest.mark.parametrize("what", TARGETS)
async def test_beside_an_invoice_the_sum_must_be_its_own(api: Stubbed, what: str) -> None:
    assert (await pay_out(api, what, MINE.payment_request, sats=9)).status_code == 200
    answer = await pay_out(api, what, MINE.payment_request, sats=8)
    assert answer.status_code == 400 and answer.json()["fields"][0]["path"] == "amountSats"
    assert len(api.router.asked) == 1


async def test_a_sum_without_a_place_for_it_is_refused(api: Stubbed) -> None:
    answer = await api.post("/close", {"amountSats": 5})
    assert answer.status_code == 400 and answer.json()["fields"][0]["path"] == "amountSats"


@pytest.mark.parametrize("what", TARGETS)
async def test_a_payout_that_the_same_operation_has_begun_is_joined_and_nothing_is_asked_for(
    api: Stubbed, what: str
) -> None:
    refund = RefundView(Msat(1_000), Msat(9_000), RefundState.PAID)
    api.plays(PlanPayout, session_view(SessionState.CLOSED, refund=refund))
    api.plays(PlanJobPayout, job_view())
    answer = await pay_out(api, what, ADDRESS, **KEY)
    assert (answer.status_code, answer.json()["refund"]["state"]) == (200, "paid")
    assert api.destinations.asked == [] and len(api.router.asked) == 1


async def test_a_session_that_has_nothing_to_pay_out_is_closed_without_asking(api: Stubbed) -> None:
    plans(api, PayoutPlan(ZERO, "bcrt"))
    assert (await pay_out(api, "close", ADDRESS)).status_code == 200
    assert api.destinations.asked == [] and api.router.commands(CloseSession)[0].target is None


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize(
    ("error", "bound"),
    [
        (DestinationError(DestinationFault.NOT_FOUND, "The destination can't be paid"), {}),
        (DestinationError(DestinationFault.AMOUNT_TOO_SMALL, "It takes at least 22 sats", 22), {"minSats": 22}),
        (DestinationError(DestinationFault.AMOUNT_TOO_LARGE, "It takes at most 5 sats", 5), {"maxSats": 5}),
    ],
)
async def test_a_destination_that_can_t_be_paid_is_told_and_nothing_happens(
    api: Stubbed, what: str, error: DestinationError, bound: dict[str, int]
) -> None:
    plans(api, PayoutPlan(Msat(9_000), "bcrt"))
    api.destinations.script = [error]
    answer = await pay_out(api, what, ADDRESS)
    told = answer.json()
    assert (answer.status_code, told["code"], told["destinationFault"]) == (400, "invalid_request", error.fault.value)
    assert told["fields"] == [{"path": "paymentRequest", "message": error.told}]
    assert {name: told[name] for name in ("minSats", "maxSats") if name in told} == bound
    assert (told["retryAction"], told["paymentState"]) == ("stop", "unused")
    assert len(api.router.asked) == 1


@pytest.mark.parametrize("what", TARGETS)
async def test_a_destination_that_is_away_may_be_tried_again(api: Stubbed, what: str) -> None:
    plans(api, PayoutPlan(Msat(9_000), "bcrt"))
    api.destinations.script = [TransientError("away")]
    answer = await pay_out(api, what, ADDRESS)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "destination" in answer.json()["error"] and "store" not in answer.json()["error"]
    assert (await pay_out(api, what, ADDRESS)).status_code == 200


@pytest.mark.parametrize("what", TARGETS)
async def test_what_the_actor_does_not_plan_is_not_asked_for(api: Stubbed, what: str) -> None:
    plans(api, refund_pending())
    assert (await pay_out(api, what, ADDRESS)).status_code == 425
    assert api.destinations.asked == []


@pytest.mark.parametrize("what", TARGETS)
async def test_strangers_servers_are_not_asked_all_the_time(api: Stubbed, what: str) -> None:
    plans(api, PayoutPlan(Msat(9_000), "bcrt"))
    statuses = {(await pay_out(api, what, ADDRESS)).status_code for _ in range(refunds._QUESTIONS_MAX)}
    assert statuses == {200}
    api.limits.refuse_for_s = 60
    answer = await pay_out(api, what, ADDRESS)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert len(api.destinations.asked) == refunds._QUESTIONS_MAX


async def test_an_id_that_can_t_be_a_job_s_is_not_found(api: Stubbed) -> None:
    answer = await api.http.post("/jobs/job_short/refund", json={"paymentRequest": MINE.payment_request})
    assert answer.status_code == 404 and api.router.asked == []


async def test_a_job_s_refund_needs_an_invoice(api: Stubbed) -> None:
    assert (await api.http.post(f"/jobs/{JOB_ID}/refund")).status_code == 400
    assert (await api.http.post(f"/jobs/{JOB_ID}/refund", json={})).json()["fields"][0]["path"] == "paymentRequest"


async def test_the_clock_is_the_front_s(api: Stubbed) -> None:
    late = replace(api.state, now_ms=lambda: START_MS + 3_600_000)
    async with client_of(create_app(late)) as http:
        answer = await http.post(f"/jobs/{JOB_ID}/refund", json={"paymentRequest": MINE.payment_request})
    assert answer.status_code == 400


class Node:
    """A node that is asked about invoices."""

    def __init__(self, answer: bool | Exception) -> None:
        self.answer = answer
        self.asked: list[PayoutTarget] = []

    async def is_own(self, target: PayoutTarget) -> bool:
        self.asked.append(target)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("what", TARGETS)
@pytest.mark.parametrize(
    ("answer", "internal"),
    [(True, True), (False, False), (TransientError("it is away"), False), (TimeoutError(), False)],
)
async def test_the_node_is_asked_whether_an_invoice_is_its_own_and_without_an_answer_it_is_not(
    what: str, answer: bool | Exception, internal: bool
) -> None:
    node = Node(answer)
    async with stubbed(is_own_invoice=node.is_own) as front:
        plays_well(front)
        assert (await pay_out(front, what, MINE.payment_request)).status_code == 200
        (target,) = node.asked
        assert front.router.asked[0][1].target == replace_struct(target, internal=internal)


async def test_a_stranger_s_flood_of_invoices_does_not_keep_the_node_busy(api: Stubbed) -> None:
    gate, asked = asyncio.Event(), 0

    async def is_own(target: PayoutTarget) -> bool:
        nonlocal asked
        asked += 1
        await gate.wait()
        return True

    taken = Refunds(replace(api.state, is_own_invoice=is_own))
    asking = [asyncio.ensure_future(taken.target(PayoutOrder(MINE.payment_request))) for _ in range(9)]
    done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert (asked, {task.result().internal for task in done}) == (len(waiting), {False})
    gate.set()
    assert {(await task).internal for task in waiting} == {True}
