"""A request right after a payment of which only the node knows: a macaroon works as soon as its deposit has settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import TransientError
from satmeter.http.sessions import unseen_payments
from tests.helpers.http.fronts import Json
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over
from tests.helpers.patience import PATIENCE_S

CALL: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO}
ASK: dict[str, Any] = {"request": "say hello"}
# Nothing less than its thought is of use.
DEAR: dict[str, Any] = {**CALL, "max_tokens": 120_000, "thinking": {"type": "enabled", "budget_tokens": 100_000}}
CHAT: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def opened(shop: Shop) -> Json:
    """An unpaid session."""
    answer = await shop.api.http.post("/sessions", json={"amountSats": 1_000})
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def post(shop: Shop, session: Json, path: str, body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {session['macaroon']}"}
    return await shop.api.http.post(path.format(id=session["sessionId"]), json=body, headers=headers)


async def deposited(shop: Shop, session: Json) -> int:
    headers = {"authorization": f"Bearer {session['macaroon']}"}
    shown = (await shop.api.http.get(f"/sessions/{session['sessionId']}", headers=headers)).json()
    found: int = shown["depositedMsat"]
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sessions/{id}/request", ASK),
        ("/sessions/{id}/request", {**ASK, "stream": True}),
        ("/ask", ASK),
        ("/v1/messages", CALL),
        ("/v1/messages", {**CALL, "stream": True}),
        ("/v1/messages/count_tokens", {"model": MODEL, "messages": HELLO}),
        ("/v1/chat/completions", CHAT),
        ("/v1/responses", {"model": MODEL, "input": "hello"}),
    ],
)
async def test_a_deposit_that_only_the_node_knows_of_is_spent_at_once(shop: Shop, path: str, body: Any) -> None:
    session = await opened(shop)
    assert (await post(shop, session, path, body)).status_code == 402
    shop.api.world.lightning.pay(session["depositInvoice"]["paymentHash"])
    answer = await post(shop, session, path, body)
    assert answer.status_code == 200, answer.text
    # The treasury comes late, and it is credited once.
    await shop.api.pay(session["depositInvoice"])
    assert await deposited(shop, session) == 1_000_000


async def test_a_session_whose_deposit_only_the_node_knows_of_is_topped_up_at_once(shop: Shop) -> None:
    session, top_up = await opened(shop), {"amountSats": 500}
    assert (await post(shop, session, "/sessions/{id}/topup", top_up)).status_code == 402
    shop.api.world.lightning.pay(session["depositInvoice"]["paymentHash"])
    answer = await post(shop, session, "/sessions/{id}/topup", top_up)
    assert answer.status_code == 201, answer.text


async def test_a_large_body_is_let_in_for_a_deposit_that_only_the_node_knows_of(shop: Shop) -> None:
    session = await opened(shop)
    long = {**CALL, "messages": [{"role": "user", "content": "hello " * 60_000}]}
    assert (await post(shop, session, "/v1/messages", long)).status_code == 402
    shop.api.world.lightning.pay(session["depositInvoice"]["paymentHash"])
    answer = await post(shop, session, "/v1/messages", long)
    assert answer.status_code == 200, answer.text
    assert await deposited(shop, session) == 1_000_000


async def test_a_top_up_that_only_the_node_knows_of_is_spent_at_once(shop: Shop) -> None:
    session = await opened(shop)
    await shop.api.pay(session["depositInvoice"])
    refused = await post(shop, session, "/v1/messages", DEAR)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_balance")
    own = await post(shop, session, "/sessions/{id}/topup", {"amountSats": 90_000})
    for top_up in (refused.json()["topUpInvoice"], own.json()["topUpInvoice"]):
        shop.api.world.lightning.pay(top_up["paymentHash"])
    answer = await post(shop, session, "/v1/messages", DEAR)
    assert answer.status_code == 200, answer.text
    expected = 1_000_000 + 90_000_000 + refused.json()["topUpInvoice"]["amountSats"] * 1_000
    assert await deposited(shop, session) == expected
    for top_up in (refused.json()["topUpInvoice"], own.json()["topUpInvoice"]):
        await shop.api.pay(top_up)
    assert await deposited(shop, session) == expected


async def test_the_node_is_asked_for_an_unpaid_session_only_so_often(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen_payments, "_OF_SESSION_PER_S", 0.001)
    session, asked = await opened(shop), shop.api.world.lightning.calls
    asked.clear()
    answers = [await post(shop, session, "/v1/messages", CALL) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {402}
    assert 1 <= asked.count("lookup") <= 6


async def test_a_node_that_does_not_answer_in_time_makes_no_other_refusal_of_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen_payments, "_PATIENCE_S", 0.05)
    session = await opened(shop)
    shop.api.world.lightning.fault = TransientError("the node is busy")
    answer = await post(shop, session, "/v1/messages", CALL)
    assert (answer.status_code, answer.json()["code"]) == (402, "payment_required")


async def test_all_paths_and_sessions_have_the_node_asked_only_so_often(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen_payments, "_OF_ALL_PER_S", 0.001)
    monkeypatch.setattr(unseen_payments, "_OF_ALL_BURST", 5.0)
    async with shop_over(redis) as shop:
        asked = shop.api.world.lightning.calls
        for path, body in [
            ("/sessions/{id}/request", ASK),
            ("/sessions/{id}/topup", {"amountSats": 500}),
            ("/v1/messages", CALL),
            ("/v1/messages/count_tokens", {"model": MODEL, "messages": HELLO}),
            ("/v1/responses/input_tokens", {"model": MODEL, "input": "hello"}),
        ]:
            for _ in range(4):
                session = await opened(shop)
                assert (await post(shop, session, path, body)).status_code == 402
        assert asked.count("lookup") == 5


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize(("path", "body"), [("/sessions/{id}/request", ASK), ("/v1/messages", CALL)])
async def test_while_the_node_is_away_no_deposit_is_called_unpaid(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, *, hangs: bool
) -> None:
    monkeypatch.setattr(unseen_payments, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(unseen_payments, "_ANSWERS_WITHIN_S", 0.05)
    monkeypatch.setattr(unseen_payments, "_OF_SESSION_PER_S", 0.001)
    monkeypatch.setattr(unseen_payments, "_AWAY_S", PATIENCE_S)
    asked: list[str] = []

    async def away() -> None:
        asked.append("check")
        if hangs:
            await asyncio.Event().wait()
        raise TransientError("the node is away")

    async with shop_over(redis) as shop:
        session = await opened(shop)
        shop.api.world.lightning.fault = TransientError("the node is away")
        shop.api.state.checks["lightning"] = away  # type: ignore[index]
        for _ in range(10):
            answer = await post(shop, session, path, body)
            assert answer.status_code == 503, answer.text
            told = answer.json()
            assert (told["code"], told["retryAction"]) == ("unavailable", "retry")
            assert "x-should-retry" not in answer.headers and int(answer.headers["retry-after"]) >= 1
        assert 1 <= len(asked) <= 6


async def test_who_waits_for_a_look_up_that_finds_the_node_away_waits_for_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen_payments, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(unseen_payments, "_ANSWERS_WITHIN_S", PATIENCE_S)
    session, checks, credited = await opened(shop), 0, unseen_payments.UnseenPayments.credited
    checking, joined, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def away() -> None:
        nonlocal checks
        checks += 1
        checking.set()
        await told.wait()
        raise TransientError("the node is away")

    shop.api.world.lightning.fault = TransientError("the node is away")
    shop.api.state.checks["lightning"] = away  # type: ignore[index]
    early = asyncio.create_task(post(shop, session, "/v1/messages", CALL))
    await checking.wait()

    async def noted(*args: Any) -> bool:
        joined.set()
        return await credited(*args)

    monkeypatch.setattr(unseen_payments.UnseenPayments, "credited", noted)
    late = asyncio.create_task(post(shop, session, "/v1/messages", CALL))
    await joined.wait()
    told.set()
    assert [(await answering).status_code for answering in (early, late)] == [503, 503]
    assert checks == 1


@pytest.mark.parametrize("tops_up", [False, True])
async def test_while_the_node_is_away_only_who_has_an_open_invoice_gets_a_503(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, *, tops_up: bool
) -> None:
    monkeypatch.setattr(unseen_payments, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(unseen_payments, "_OF_SESSION_PER_S", 0.001)
    monkeypatch.setattr(unseen_payments, "_OF_SESSION_BURST", 1.0)
    monkeypatch.setattr(unseen_payments, "_AWAY_S", PATIENCE_S)

    async def away() -> None:
        raise TransientError("the node is away")

    async with shop_over(redis) as shop:
        lightning = shop.api.world.lightning
        funded, unpaid = await opened(shop), await opened(shop)
        await shop.api.pay(funded["depositInvoice"])
        if tops_up:
            assert (await post(shop, funded, "/sessions/{id}/topup", {"amountSats": 500})).status_code == 201
        shop.api.state.checks["lightning"] = away  # type: ignore[index]
        lightning.fault = TransientError("the node is away")
        # Another session's look-up finds that the node is away; it is back a moment later.
        assert (await post(shop, unpaid, "/v1/messages", CALL)).status_code == 503
        if not tops_up:
            lightning.fault = None
            monkeypatch.setattr(unseen_payments, "_PATIENCE_S", PATIENCE_S)
        # Also beyond the look-up that it may have.
        for _ in range(3):
            answer = await post(shop, funded, "/v1/messages", DEAR)
            told = answer.json()
            if tops_up:
                assert (answer.status_code, told["code"]) == (503, "unavailable"), answer.text
                # The node is not asked again, and a busy machine is waited for.
                monkeypatch.setattr(unseen_payments, "_PATIENCE_S", PATIENCE_S)
            else:
                assert (answer.status_code, told["code"]) == (402, "insufficient_balance"), answer.text
                assert told["topUpInvoice"]
                break


async def test_requests_that_come_together_share_a_look_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unseen_payments, "_OF_SESSION_PER_S", 0.001)
    session, lightning = await opened(shop), shop.api.world.lightning
    lightning.pay(session["depositInvoice"]["paymentHash"])
    lightning.calls.clear()
    answers = await asyncio.gather(*(post(shop, session, "/v1/messages", CALL) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert lightning.calls.count("lookup") <= 3


async def test_who_pays_while_another_request_has_the_node_asked_is_not_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen_payments, "_PATIENCE_S", PATIENCE_S)
    session, lightning = await opened(shop), shop.api.world.lightning
    asked, told, look_up = asyncio.Event(), asyncio.Event(), lightning.lookup

    async def slowly(payment_hash: str) -> Settlement | None:
        found = await look_up(payment_hash)
        asked.set()
        await told.wait()
        return found

    monkeypatch.setattr(lightning, "lookup", slowly)
    early = asyncio.create_task(post(shop, session, "/v1/messages", CALL))
    await asked.wait()
    lightning.pay(session["depositInvoice"]["paymentHash"])
    refused = asyncio.Event()
    credited = unseen_payments.UnseenPayments.credited

    async def noted(*args: Any) -> bool:
        refused.set()
        return await credited(*args)

    monkeypatch.setattr(unseen_payments.UnseenPayments, "credited", noted)
    late = asyncio.create_task(post(shop, session, "/v1/messages", CALL))
    await refused.wait()
    told.set()
    assert (await late).status_code == 200
    assert (await early).status_code in {200, 402}


async def test_a_slow_node_does_not_delay_the_refusal_for_long(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unseen_payments, "_PATIENCE_S", 0.05)
    session = await opened(shop)
    shop.api.world.lightning.gate.close()
    async with asyncio.timeout(PATIENCE_S):
        answer = await post(shop, session, "/v1/messages", CALL)
    assert answer.status_code == 402
    shop.api.world.lightning.gate.open()
