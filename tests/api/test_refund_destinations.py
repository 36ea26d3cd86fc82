"""Payouts to Lightning addresses over a real host and store: one at a time, and one for each operation."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.ports import TransientError
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, Json
from tests.helpers.lnurl_servers import FakeDestinations

ADDRESS = "anna@wallet.example"
KEY = {"Idempotency-Key": "my-key"}


def destinations_of(api: Api) -> FakeDestinations:
    assert isinstance(api.state.destinations, FakeDestinations)
    return api.state.destinations


class Holder:
    """A session with 1,000 sats, and its holder."""

    def __init__(self, api: Api, opened: Json) -> None:
        self._api = api
        self._path = f"/sessions/{opened['sessionId']}"
        self._headers = {"Authorization": f"Bearer {opened['macaroon']}"}

    async def close(self, body: Any = None, **headers: str) -> httpx.Response:
        order = {"paymentRequest": ADDRESS} if body is None else body
        return await self._api.http.post(f"{self._path}/close", json=order, headers={**self._headers, **headers})

    async def refund(self) -> Json:
        answer = await self._api.http.get(self._path, headers=self._headers)
        shown: Json = answer.json()
        parts = ("balanceMsat", "heldMsat", "spentMsat")
        refund: Json = shown["refund"]
        assert shown["depositedMsat"] == sum(shown[part] for part in parts) + refund["owedMsat"] + refund["paidMsat"]
        return refund


async def opened(api: Api) -> Holder:
    answer = await api.http.post("/sessions", json={"amountSats": 1_000})
    await api.pay(answer.json()["depositInvoice"])
    return Holder(api, answer.json())


async def ordered(api: Api, count: int) -> bool:
    return len(api.world.lightning.payout_orders) >= count


async def test_the_rest_of_a_session_goes_to_an_address(api: Api) -> None:
    holder = await opened(api)
    answer = await holder.close()
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["refund"]["paidMsat"]) == ("closed", 990_000)
    ((target, _),) = api.world.lightning.payout_orders
    assert target == destinations_of(api).targets[0]
    # What the routing reserve left can be had by the same address.
    answer = await holder.close()
    assert answer.json()["refund"]["paidMsat"] == 998_000
    assert (await holder.close()).json()["refund"]["state"] == "paid"
    assert len(api.world.lightning.payout_orders) == 2


async def test_a_job_s_refund_goes_to_an_address(api: Api) -> None:
    job = await api.complete()
    path, payable = f"/jobs/{job['jobId']}/refund", job["refund"]["payableSats"]
    assert payable > 0
    answer = await api.http.post(path, json={"paymentRequest": ADDRESS})
    assert (answer.status_code, answer.json()["refund"]["paidMsat"]) == (200, payable * 1_000)
    while answer.json()["refund"]["payableSats"]:
        answer = await api.http.post(path, json={"paymentRequest": ADDRESS})
    answer = await api.http.post(path, json={"paymentRequest": ADDRESS})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


async def test_a_part_can_be_paid_and_no_more_than_there_is(api: Api) -> None:
    holder = await opened(api)
    answer = await holder.close({"paymentRequest": ADDRESS, "amountSats": 991})
    assert (answer.status_code, answer.json()["maxSats"]) == (400, 990)
    assert answer.json()["fields"][0]["path"] == "amountSats"
    answer = await holder.close({"paymentRequest": ADDRESS, "amountSats": 100})
    assert answer.json()["refund"]["paidMsat"] == 100_000
    assert destinations_of(api).targets[0].amount_msat.value == 100_000


async def test_a_destination_s_failure_leaves_the_session_open(api: Api) -> None:
    holder = await opened(api)
    destinations_of(api).script = [TransientError("away")]
    assert (await holder.close()).status_code == 503
    assert (await holder.refund())["state"] == "none" and (await holder.refund())["payableSats"] == 990


@pytest.mark.parametrize(
    "outcome",
    [
        PayoutReport(PayoutStatus.PAID),
        PayoutReport(PayoutStatus.PENDING),
        TransientError("the answer was lost"),
    ],
    ids=["paid", "pending", "lost"],
)
async def test_one_key_is_one_payout_however_often_and_at_once_it_is_sent(
    api: Api, outcome: PayoutReport | Exception
) -> None:
    holder, node = await opened(api), api.world.lightning
    node.payout_script, node.pays_before_fault = [outcome], True
    node.gate.close()
    asking = [asyncio.create_task(holder.close(**KEY)) for _ in range(5)]
    await until(lambda: ordered(api, 1))
    late = [asyncio.create_task(holder.close(**KEY)) for _ in range(3)]
    conflict = await holder.close({"paymentRequest": "bob@wallet.example"}, **KEY)
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")
    unkeyed = await holder.close()
    assert (unkeyed.status_code, unkeyed.json()["code"]) == (425, "refund_pending")
    node.gate.open()
    target, _ = node.payout_orders[0]
    node.outgoing.setdefault(target.payment_hash, PayoutReport(PayoutStatus.PAID))

    async def paid() -> bool:
        node.outgoing[target.payment_hash] = PayoutReport(PayoutStatus.PAID)
        return all(task.done() for task in (*asking, *late))

    await until(paid)
    answers = [task.result() for task in (*asking, *late)] + [await holder.close(**KEY) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["refund"]["paidMsat"] for answer in answers} == {990_000}
    assert len(node.payout_orders) == 1
    assert (await holder.refund())["paidMsat"] == 990_000


async def test_a_failed_payout_needs_another_key_and_gets_another_invoice(api: Api) -> None:
    holder, node = await opened(api), api.world.lightning
    node.payout_script = [PayoutReport(PayoutStatus.FAILED)]
    failed = await holder.close(**KEY)
    assert failed.json()["refund"]["failureCode"] == "payment_failed"
    assert (await holder.close(**KEY)).json() == failed.json()
    assert len(node.payout_orders) == 1
    assert (await holder.close(**{"Idempotency-Key": "another"})).json()["refund"]["paidMsat"] == 990_000
    hashes = [target.payment_hash for target, _ in node.payout_orders]
    assert len(set(hashes)) == 2


async def test_many_clients_at_once_are_paid_no_more_than_there_is(api: Api) -> None:
    """All sums that clients ask for at the same time, under keys that repeat."""
    holder, node = await opened(api), api.world.lightning
    bodies = [{"paymentRequest": ADDRESS, "amountSats": sats} for sats in (300, 300, 300, 300, 990, 1)]
    for round_ in range(4):
        asked = [
            holder.close(body, **{"Idempotency-Key": f"{round_ % 2}.{number}"})
            for number, body in enumerate(bodies)
            for _ in range(2)
        ]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} <= {200, 400, 425, 429}
    refund = await holder.refund()
    sent_msat = sum(target.amount_msat.value for target, _ in node.payout_orders)
    assert sent_msat == refund["paidMsat"] <= 1_000_000
    hashes = [target.payment_hash for target, _ in node.payout_orders]
    assert len(hashes) == len(set(hashes))
