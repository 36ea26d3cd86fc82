"""A model provider that is away: no invoice and no hold at any path, and all that needs no model goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.outage import ModelOutage, ModelWait, ModelWord, Stage
from satmeter.http.app import create_app
from tests.helpers.fakes import FakeModelNews
from tests.helpers.hosts import until
from tests.helpers.http.fronts import AS_OPERATOR, Api, client_of
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

MESSAGES: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
RESPONSE: Any = {"model": MODEL, "input": "Hello"}
CHAT: Any = {"model": MODEL, "messages": HELLO}
ASK: Any = {"request": "say hello"}
JOB: Any = {"request": "say hello"}
PDF: Any = {
    **MESSAGES,
    "messages": [
        {
            "role": "user",
            "content": [
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"},
                }
            ],
        }
    ],
}
HAIKU = "claude-haiku-5-5"


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


def goes(shop: Shop, stage: Stage | None, in_s: int = 40, fault: ModelFault | None = ModelFault.UNREACHABLE) -> None:
    """The provider is away from now on, and tried again in so many seconds; None: it is there."""
    now_ms = shop.api.world.now_ms()
    outage = None if stage is None else ModelOutage(stage, fault, now_ms - 60_000, now_ms + in_s * 1_000)
    tells(shop.api, ModelWord(outage))


def tells(api: Api, word: ModelWord) -> None:
    """Set what is known of the model provider."""
    assert isinstance(api.state.model, FakeModelNews)
    api.state.model.word = word


def waits(shop: Shop, model: str, in_s: int, fault: ModelFault = ModelFault.LIMITED) -> None:
    """The provider has asked not to be called for a model."""
    wait = ModelWait(fault, shop.api.world.now_ms() + in_s * 1_000)
    tells(shop.api, ModelWord(waits={model: wait}))


def asks_for(answer: Any, seconds: int) -> bool:
    """Check that the client has to wait for so long, less what the test itself has taken."""
    return seconds - 10 < int(answer.headers["retry-after"]) <= seconds


def invoices(shop: Shop) -> int:
    """Count the invoices that the node was asked for."""
    return shop.api.world.lightning.calls.count("create_invoice")


async def call(shop: Shop, method: str, path: str, body: Any, *, key: str | None) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    path = path.format(session=shop.session_id)
    return await shop.api.http.request(method, path, json=body, headers=headers)


SALES = [
    ("POST", "/jobs", JOB, False),
    ("POST", "/sessions", {"amountSats": 1_000}, False),
    ("POST", "/sessions/{session}/topup", {"amountSats": 1_000}, True),
]
CHALLENGES = [
    ("POST", "/ask", ASK, False),
    ("POST", "/v1/messages", MESSAGES, False),
    ("POST", "/v1/chat/completions", CHAT, False),
    ("POST", "/v1/responses", RESPONSE, False),
]
CALLS = [
    ("POST", "/ask", ASK, True),
    ("POST", "/sessions/{session}/request", ASK, True),
    ("POST", "/sessions/{session}/request", {**ASK, "stream": True}, True),
    ("POST", "/v1/messages", MESSAGES, True),
    ("POST", "/v1/messages", {**MESSAGES, "stream": True}, True),
    ("POST", "/v1/messages", PDF, True),
    ("POST", "/v1/chat/completions", CHAT, True),
    ("POST", "/v1/chat/completions", {**CHAT, "stream": True}, True),
    ("POST", "/v1/responses", RESPONSE, True),
    ("POST", "/v1/responses", {**RESPONSE, "stream": True}, True),
    ("POST", "/v1/responses/input_tokens", RESPONSE, True),
    ("POST", "/v1/messages/count_tokens", {"model": MODEL, "messages": HELLO}, True),
    ("GET", "/demo?request=hello", None, False),
]


@pytest.mark.parametrize(("method", "path", "body", "holder"), SALES + CHALLENGES + CALLS)
async def test_nothing_is_sold_held_or_called_while_it_is_down(
    shop: Shop, method: str, path: str, body: Any, holder: bool
) -> None:
    made, entries = invoices(shop), await shop.ledger()
    goes(shop, Stage.DOWN)
    answer = await call(shop, method, path, body, key=shop.key if holder else None)
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == "unavailable" and asks_for(answer, 41)
    assert "www-authenticate" not in answer.headers and "invoice" not in answer.text.lower()
    assert "nothing was charged" in answer.text
    assert (invoices(shop), await shop.ledger(), shop.upstream.requests) == (made, entries, [])
    goes(shop, None)
    again = await call(shop, method, path, body, key=shop.key if holder else None)
    assert again.status_code in (200, 201, 402), again.text


@pytest.mark.parametrize(("method", "path", "body", "holder"), SALES + CHALLENGES)
async def test_on_trial_nothing_is_sold_until_a_paid_call_has_succeeded(
    shop: Shop, method: str, path: str, body: Any, holder: bool
) -> None:
    goes(shop, Stage.TRIAL)
    assert (await call(shop, method, path, body, key=shop.key if holder else None)).status_code == 503
    assert (await call(shop, "POST", "/ask", ASK, key=shop.key)).status_code == 200


async def test_a_request_that_the_balance_does_not_cover_is_offered_no_invoice(redis: Redis) -> None:
    async with shop_over(redis, sats=100) as shop:
        dear = {**ASK, "request": "word " * 19_000}
        refused = await call(shop, "POST", "/ask", dear, key=shop.key)
        assert refused.status_code == 402 and "topUpInvoice" in refused.json()
        goes(shop, Stage.TRIAL)
        refused = await call(shop, "POST", "/ask", dear, key=shop.key)
        assert refused.status_code == 503 and "topUpInvoice" not in refused.json()
        goes(shop, Stage.DOWN)
        assert (await call(shop, "POST", "/ask", dear, key=shop.key)).status_code == 503


async def test_who_has_not_paid_yet_is_not_asked_to(shop: Shop) -> None:
    opened = (await shop.api.http.post("/sessions", json={"amountSats": 1_000})).json()
    assert (await call(shop, "POST", "/ask", ASK, key=opened["macaroon"])).status_code == 402
    goes(shop, Stage.DOWN)
    assert (await call(shop, "POST", "/ask", ASK, key=opened["macaroon"])).status_code == 503


async def test_who_may_not_or_can_not_spend_any_more_is_told_that(shop: Shop) -> None:
    goes(shop, Stage.DOWN)
    narrowed = shop.narrowed("actions = read")
    assert (await call(shop, "POST", "/ask", ASK, key="nonsense")).status_code == 401
    assert (await call(shop, "POST", "/ask", ASK, key=narrowed)).status_code == 403
    assert (await call(shop, "POST", "/sessions/{session}/close", {}, key=shop.key)).status_code == 200
    assert (await call(shop, "POST", "/ask", ASK, key=shop.key)).status_code == 410


@pytest.mark.parametrize(
    ("path", "body"),
    [("/ask", ASK), ("/v1/messages", MESSAGES), ("/v1/chat/completions", CHAT), ("/v1/responses", RESPONSE)],
)
async def test_what_was_answered_is_given_again_under_its_key(shop: Shop, path: str, body: Any) -> None:
    first = await shop.post(body, path, **{"idempotency-key": "k"})
    spent = (await shop.show())["spentMsat"]
    goes(shop, Stage.DOWN)
    again = await shop.post(body, path, **{"idempotency-key": "k"})
    assert (again.status_code, again.content) == (200, first.content)
    assert (await shop.post(body, path, **{"idempotency-key": "other"})).status_code == 503
    assert (await shop.show())["spentMsat"] == spent


async def test_what_needs_no_model_goes_on(shop: Shop) -> None:
    api = shop.api
    job = await api.create()
    await api.pay(job["evalInvoice"])
    await api.job_in(job["jobId"], "awaiting_work_payment")
    topped = await call(shop, "POST", "/sessions/{session}/topup", {"amountSats": 500}, key=shop.key)
    goes(shop, Stage.DOWN)
    await api.pay(topped.json()["topUpInvoice"])
    assert (await shop.show())["depositedMsat"] == 10_500_000, "what was sold before is credited"
    for path in ("/jobs/" + job["jobId"], f"/sessions/{shop.session_id}", f"/sessions/{shop.session_id}/ledger"):
        assert (await call(shop, "GET", path, None, key=shop.key)).status_code == 200
    for path in ("/pricing", "/v1/models", "/healthz", "/openapi.json", "/"):
        assert (await api.http.get(path)).status_code == 200
    invoice = (await api.http.post("/dev/stub/invoice", json={"amountSats": 9_000})).json()["paymentRequest"]
    closed = await call(shop, "POST", "/sessions/{session}/close", {"paymentRequest": invoice}, key=shop.key)
    assert closed.status_code == 200
    assert (await shop.show())["refund"]["paidMsat"] == 9_000_000


async def test_sdks_see_a_server_that_is_unavailable(shop: Shop) -> None:
    goes(shop, Stage.DOWN)
    async with shop.sdk() as sdk:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await sdk.messages.create(**MESSAGES)
    assert (caught.value.status_code, caught.value.type) == (503, "overloaded_error")


# Waits that the provider has asked for


async def test_a_limit_keeps_calls_of_its_model_waiting_and_closes_nothing(shop: Shop) -> None:
    waits(shop, MODEL, 37)
    for method, path, body, holder in CALLS[:5] + CHALLENGES:
        answer = await call(shop, method, path, body, key=shop.key if holder else None)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited"), path
        assert asks_for(answer, 37) and "nothing was charged" in answer.text
    assert shop.upstream.requests == [] and (await shop.show())["heldMsat"] == 0
    assert (await call(shop, "POST", "/v1/messages", {**MESSAGES, "model": HAIKU}, key=shop.key)).status_code == 200
    for method, path, body, holder in SALES:
        assert (await call(shop, method, path, body, key=shop.key if holder else None)).status_code == 201
    assert (await shop.api.http.get("/readyz")).status_code == 200


@pytest.mark.parametrize("model", [MODEL, HAIKU])
async def test_nobody_buys_a_job_that_would_only_wait(shop: Shop, model: str) -> None:
    waits(shop, model, 90)
    answer = await shop.api.http.post("/jobs", json=JOB)
    assert answer.status_code == 429 and asks_for(answer, 90)
    assert (await shop.api.http.post("/sessions", json={"amountSats": 1_000})).status_code == 201


@pytest.mark.parametrize(("path", "status"), [("/v1/messages", 529), ("/v1/chat/completions", 503), ("/ask", 503)])
async def test_an_overload_s_wait_is_told_as_one(shop: Shop, path: str, status: int) -> None:
    waits(shop, MODEL, 12, ModelFault.OVERLOADED)
    body = next(body for _, of, body, _ in CHALLENGES if of == path)
    answer = await shop.post(body, path)
    assert (answer.status_code, answer.json()["code"]) == (status, "overloaded") and asks_for(answer, 12)


# Readiness and metrics


@pytest.mark.parametrize("stage", [Stage.DOWN, Stage.TRIAL])
@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (None, ": it has not been asked yet"),
        (ModelFault.UNREACHABLE, ""),
        (ModelFault.OVERLOADED, ": its provider is overloaded"),
        (ModelFault.REFUSED, ": its provider does not accept this server's key, or its account there lacks credit or "),
    ],
)
async def test_readiness_and_metrics_name_the_model(
    shop: Shop, stage: Stage, fault: ModelFault | None, trouble: str
) -> None:
    assert "satmeter_model_up 1.0" in (await shop.api.http.get("/metrics", headers=AS_OPERATOR)).text
    goes(shop, stage, fault=fault)
    async with client_of(create_app(shop.api.state)) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["unreachable"]) == (503, ["model"])
        assert answer.json()["error"].startswith(f"The model can't be reached just now{trouble}")
        assert int(answer.headers["retry-after"]) > 0
        assert "satmeter_model_up 0.0" in (await http.get("/metrics", headers=AS_OPERATOR)).text


async def test_a_load_balancer_can_do_without_the_model(shop: Shop) -> None:
    goes(shop, Stage.DOWN)
    answer = await shop.api.http.get("/readyz?exclude=model")
    checks = {"store": "ok", "actors": "ok", "lightning": "ok"}
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "checks": checks})
    assert (await shop.api.http.get("/readyz?exclude=store&exclude=actors")).json()["unreachable"] == ["model"]
    wrong = await shop.api.http.get("/readyz?exclude=modle")
    assert (wrong.status_code, wrong.json()["fields"][0]["path"]) == (400, "exclude")
    # Probes ask as Kubernetes' own parts are asked.
    assert (await shop.api.http.get("/readyz?verbose&exclude=model")).status_code == 200


async def test_readiness_names_all_that_is_amiss(shop: Shop) -> None:
    async def down() -> None:
        raise OSError

    goes(shop, Stage.DOWN, fault=ModelFault.OVERLOADED)
    state = replace(shop.api.state, checks={"store": down}, store_trouble=lambda: "the disk is full")
    async with client_of(create_app(state)) as http:
        told = (await http.get("/readyz")).json()
    assert told["unreachable"] == ["store", "model"]
    assert told["error"] == (
        "The store and the model can't be reached just now: the disk is full; its provider is overloaded."
    )


async def test_an_outage_that_is_over_sells_again(shop: Shop) -> None:
    goes(shop, Stage.TRIAL, in_s=0)
    assert (await shop.api.http.post("/jobs", json=JOB)).status_code == 201

    async def ready() -> bool:
        return (await shop.api.http.get("/readyz")).status_code == 200

    await until(ready)
