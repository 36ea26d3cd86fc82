"""A wallet that holds too little, as clients and operators see it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.ports import Standing
from tests.helpers.fakes import FakeSolvency
from tests.helpers.http.fronts import AS_OPERATOR, Api, api_over

SHORT = Standing(False, 5_000, 3_000, 1)


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis) as served:
        yield served


def say(api: Api, standing: Standing | None) -> None:
    """The treasury says so."""
    assert isinstance(api.state.solvency, FakeSolvency)
    api.state.solvency.standing = standing


async def test_new_payments_are_refused_and_what_was_paid_can_be_used_and_is_paid_back(api: Api) -> None:
    opened = (await api.http.post("/sessions", json={"amountSats": 1_000})).json()
    await api.pay(opened["depositInvoice"])
    session, headers = f"/sessions/{opened['sessionId']}", {"Authorization": f"Bearer {opened['macaroon']}"}
    say(api, SHORT)
    for path, body in (
        ("/sessions", {"amountSats": 1_000}),
        (f"{session}/topup", {"amountSats": 1_000}),
        ("/jobs", {"request": "say hello"}),
    ):
        answer = await api.http.post(path, json=body, headers=headers)
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "60"
        assert answer.json()["code"] == "unavailable" and "operator" in answer.json()["error"]
    asked = await api.http.post(f"{session}/request", json={"request": "say hello", "model": "sonnet"}, headers=headers)
    assert asked.status_code == 200, asked.text
    invoice = (await api.http.post("/dev/stub/invoice", json={"amountSats": 900})).json()
    closed = await api.http.post(
        f"{session}/close", json={"paymentRequest": invoice["paymentRequest"]}, headers=headers
    )
    assert closed.status_code == 200 and closed.json()["refund"]["state"] == "partly_paid", closed.text
    say(api, None)
    assert (await api.http.post("/sessions", json={"amountSats": 1_000})).status_code == 201


async def test_a_want_of_balance_is_a_503_then_as_no_invoice_mends_it(api: Api) -> None:
    opened = (await api.http.post("/sessions", json={"amountSats": 100})).json()
    await api.pay(opened["depositInvoice"])
    session, headers = f"/sessions/{opened['sessionId']}", {"Authorization": f"Bearer {opened['macaroon']}"}
    body = {"request": "word " * 19_000, "model": "sonnet"}
    answer = await api.http.post(f"{session}/request", json=body, headers=headers)
    assert answer.status_code == 402 and "topUpInvoice" in answer.json()
    say(api, SHORT)
    answer = await api.http.post(f"{session}/request", json=body, headers=headers)
    told = answer.json()
    assert (answer.status_code, told["code"], told["retryAction"]) == (503, "unavailable", "ask_a_person")
    assert "topUpInvoice" not in told and "balance is too small" in told["error"] and "operator" in told["error"]


async def test_a_deposit_that_waits_for_payment_is_not_asked_for_then(api: Api) -> None:
    opened = (await api.http.post("/sessions", json={"amountSats": 100})).json()
    path, headers = f"/sessions/{opened['sessionId']}/request", {"Authorization": f"Bearer {opened['macaroon']}"}
    answer = await api.http.post(path, json={"request": "say hello"}, headers=headers)
    assert (answer.status_code, answer.json()["retryAction"]) == (402, "pay")
    say(api, SHORT)
    answer = await api.http.post(path, json={"request": "say hello"}, headers=headers)
    told = answer.json()
    assert (answer.status_code, told["code"], told["retryAction"]) == (503, "unavailable", "ask_a_person")
    assert "depositInvoice" not in told and "operator" in told["error"]


@pytest.mark.parametrize(("standing", "figures"), [(SHORT, ("5000.0", "3000.0", "0.0")), (None, ("NaN",) * 3)])
async def test_metrics_tell_the_figures(api: Api, standing: Standing | None, figures: tuple[str, ...]) -> None:
    say(api, standing)
    lines = (await api.http.get("/metrics", headers=AS_OPERATOR)).text.splitlines()
    for name, figure in zip(("liabilities_msat", "wallet_msat", "solvent"), figures, strict=True):
        assert f"satmeter_{name} {figure}" in lines
