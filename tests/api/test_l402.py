"""L402: clients without a credential get a challenge; those that paid go on, and never pay twice for one request."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.macaroon import MacaroonId, mint, verify
from satmeter.actors.domain.errors import Code
from satmeter.actors.router.router import Router
from tests.helpers.hosts import until
from tests.helpers.http.fronts import MACAROON_KEY
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

CALL: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "messages": HELLO}
ASK: dict[str, Any] = {"request": "say hello"}
# As four of five clients read it.
CLASSIC = re.compile(r'^L402\s+macaroon="([^"]+)",\s*invoice="([^"]+)"')
PREIMAGE = "07" * 32


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def post(shop: Shop, path: str, body: Any, **headers: str) -> httpx.Response:
    """Without a credential, unless one is named."""
    return await shop.api.http.post(path, json=body, headers=headers)


def challenged(answer: httpx.Response) -> tuple[str, str]:
    """The macaroon and the invoice of a challenge, which must be one."""
    assert answer.status_code == 402, answer.text
    header = answer.headers["www-authenticate"]
    token, invoice = CLASSIC.match(header).groups()  # type: ignore[union-attr]
    assert header == f'L402 macaroon="{token}", invoice="{invoice}", version="0", token="{token}"'
    body = answer.json()
    assert body["depositInvoice"]["paymentRequest"] == invoice
    macaroon_id, _ = verify(MACAROON_KEY, token)
    assert (macaroon_id.session_id, macaroon_id.payment_hash) == (
        body["sessionId"],
        body["depositInvoice"]["paymentHash"],
    )
    return token, body["depositInvoice"]["paymentHash"]


def paid_with(shop: Shop, token: str) -> str:
    """A credential with a preimage that fits. Its macaroon is one of ours over the hash of it."""
    macaroon_id, _ = verify(MACAROON_KEY, token)
    payment_hash = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
    return f"L402 {mint(MACAROON_KEY, MacaroonId(payment_hash, macaroon_id.session_id, 1))}:{PREIMAGE}"


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", CALL), ("/ask", ASK)])
async def test_a_wallet_pays_once_and_goes_on_for_the_rest_of_the_deposit(shop: Shop, path: str, body: Any) -> None:
    token, payment_hash = challenged(await post(shop, path, body))
    await shop.api.pay({"paymentHash": payment_hash})
    for _ in range(2):
        answer = await post(shop, path, body, authorization=paid_with(shop, token))
        assert answer.status_code == 200, answer.text
    spent = (
        await shop.api.http.get(
            f"/sessions/{verify(MACAROON_KEY, token)[0].session_id}", headers={"authorization": f"Bearer {token}"}
        )
    ).json()["spentMsat"]
    assert spent > 0


async def test_a_payment_that_was_seen_is_not_asked_for_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, call = list[str](), Router.call

    async def counted(router: Router, actor_id: str, command: Any) -> Any:
        asked.append(type(command).__name__)
        return await call(router, actor_id, command)

    monkeypatch.setattr(Router, "call", counted)
    token, payment_hash = challenged(await post(shop, "/ask", ASK))
    await shop.api.pay({"paymentHash": payment_hash})
    for _ in range(3):
        assert (await post(shop, "/ask", ASK, authorization=paid_with(shop, token))).status_code == 200
    assert asked.count("CheckPayment") == 1


async def test_the_deposit_covers_what_the_request_can_cost(shop: Shop) -> None:
    small = (await post(shop, "/v1/messages", CALL)).json()["depositInvoice"]["amountSats"]
    large = (await post(shop, "/v1/messages", {**CALL, "max_tokens": 50_000})).json()
    assert small == 100
    # 50,000 tokens of output at 10 dollars a million, with a margin of 40 %, at 100,000 dollars for a bitcoin.
    assert 700 < large["depositInvoice"]["amountSats"] < 760
    token = large["depositInvoice"]["paymentHash"]
    await shop.api.pay({"paymentHash": token})


async def test_what_no_deposit_covers_is_refused_and_no_invoice_is_made(redis: Redis) -> None:
    async with shop_over(redis, 1_000, session_max_sats=1_000) as shop:
        made = len(shop.api.world.lightning.orders)
        thought = {"type": "enabled", "budget_tokens": 100_000}
        answer = await post(shop, "/v1/messages", {**CALL, "max_tokens": 120_000, "thinking": thought})
        assert answer.status_code == 400 and "send less" in answer.json()["error"]["message"]
        assert len(shop.api.world.lightning.orders) == made
        # Less than it asks for would be of use, so it gets the largest deposit.
        answer = await post(shop, "/v1/messages", {**CALL, "max_tokens": 120_000})
        assert answer.json()["depositInvoice"]["amountSats"] == 1_000


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/messages", {}, (400, "invalid_request")),
        ("/v1/messages", {**CALL, "model": "none"}, (404, "model_not_found")),
        ("/v1/messages", {**CALL, "mcp_servers": [{"url": "x"}]}, (400, "invalid_request")),
        ("/ask", {"request": ""}, (400, "invalid_request")),
        ("/ask", {"request": "hello", "model": "none"}, (404, "model_not_found")),
    ],
)
async def test_no_client_pays_for_an_invalid_request(shop: Shop, path: str, body: Any, told: tuple[int, str]) -> None:
    made = len(shop.api.world.lightning.orders)
    answer = await post(shop, path, body)
    assert (answer.status_code, answer.json()["code"]) == told
    assert "www-authenticate" not in answer.headers and len(shop.api.world.lightning.orders) == made


async def test_the_same_key_gets_the_same_invoice_though_the_price_has_moved(shop: Shop) -> None:
    key = {"idempotency-key": "mine"}
    first = challenged(await post(shop, "/v1/messages", CALL, **key))
    assert challenged(await post(shop, "/v1/messages", {**CALL, "max_tokens": 60_000}, **key)) == first
    assert challenged(await post(shop, "/v1/messages", CALL)) != first


async def test_a_payment_that_nobody_told_us_of_yet_is_asked_for_at_the_node(shop: Shop) -> None:
    token, payment_hash = challenged(await post(shop, "/v1/messages", CALL))
    shop.api.world.lightning.pay(payment_hash)
    answer = await post(shop, "/v1/messages", CALL, authorization=paid_with(shop, token))
    assert answer.status_code == 200, answer.text
    # The treasury comes late, and it is credited once.
    await shop.api.pay({"paymentHash": payment_hash})
    seen = await shop.api.http.get(
        f"/sessions/{verify(MACAROON_KEY, token)[0].session_id}", headers={"authorization": f"Bearer {token}"}
    )
    assert seen.json()["depositedMsat"] == 100_000


async def test_a_payment_that_settles_while_the_wallet_waits_is_enough(shop: Shop) -> None:
    token, payment_hash = challenged(await post(shop, "/v1/messages", CALL))
    shop.api.world.lightning.calls.clear()
    answer = asyncio.create_task(post(shop, "/v1/messages", CALL, authorization=paid_with(shop, token)))

    async def asked_twice() -> bool:
        return shop.api.world.lightning.calls.count("lookup") >= 2

    await until(asked_twice)
    shop.api.world.lightning.pay(payment_hash)
    assert (await answer).status_code == 200


async def test_an_unpaid_credential_gets_no_second_challenge(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.http.sessions.l402._SETTLES_WITHIN_S", 0.05)
    token, payment_hash = challenged(await post(shop, "/v1/messages", CALL))
    for credential in (paid_with(shop, token), f"Bearer {token}"):
        answer = await post(shop, "/v1/messages", CALL, authorization=credential)
        assert (answer.status_code, answer.json()["code"]) == (402, Code.PAYMENT_REQUIRED)
        assert "www-authenticate" not in answer.headers
        assert answer.json()["depositInvoice"]["paymentHash"] == payment_hash


async def test_a_preimage_that_does_not_fit_is_no_credential(shop: Shop) -> None:
    token, _ = challenged(await post(shop, "/v1/messages", CALL))
    answer = await post(shop, "/v1/messages", CALL, authorization=f"L402 {token}:{PREIMAGE}")
    assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"


async def test_one_address_gets_only_so_many_challenges(redis: Redis) -> None:
    async with shop_over(redis, unpaid_per_ip=3) as shop:
        for _ in range(3):
            challenged(await post(shop, "/v1/messages", CALL))
        answer = await post(shop, "/v1/messages", CALL)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert answer.json()["error"]["type"] == "rate_limit_error"


async def test_a_wallet_beside_an_sdk_is_believed_before_the_sdk_s_key(shop: Shop) -> None:
    token, payment_hash = challenged(await post(shop, "/v1/messages", CALL, **{"x-api-key": " "}))
    await shop.api.pay({"paymentHash": payment_hash})
    headers = {"x-api-key": "unused", "authorization": paid_with(shop, token)}
    assert (await post(shop, "/v1/messages", CALL, **headers)).status_code == 200
