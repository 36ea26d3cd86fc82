"""A wallet keeps its credential: when the session has ended or is used up, it gets a challenge that it can pay."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.macaroon import MacaroonId, attenuate, mint, read, verify
from tests.api.test_l402 import CALL, CLASSIC, challenged, paid_with, post
from tests.helpers.http.fronts import MACAROON_KEY
from tests.helpers.http.messages import MODEL, Shop, shop_over

LONG: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 300_000}]}
PREIMAGE = "07" * 32
CHAT = "/v1/chat/completions"


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, sats=100) as found:
        yield found


async def close(shop: Shop) -> None:
    path, headers = f"/sessions/{shop.session_id}/close", {"authorization": f"Bearer {shop.key}"}
    assert (await shop.api.http.post(path, headers=headers)).status_code == 200


def topped_up(answer: httpx.Response, shop: Shop) -> tuple[str, str]:
    """The macaroon and payment hash of a challenge over a top-up of the same session."""
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_balance")
    token, invoice = CLASSIC.match(answer.headers["www-authenticate"]).groups()  # type: ignore[union-attr]
    told = answer.json()["topUpInvoice"]
    macaroon_id, _ = verify(MACAROON_KEY, token)
    assert invoice == told["paymentRequest"]
    assert (macaroon_id.session_id, macaroon_id.payment_hash) == (shop.session_id, told["paymentHash"])
    return token, told["paymentHash"]


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", CALL), (CHAT, CALL), ("/ask", {"request": "say hello"})])
async def test_a_closed_session_is_a_fresh_challenge_that_leads_on(shop: Shop, path: str, body: Any) -> None:
    old = paid_with(shop, shop.key)
    await close(shop)
    answer = await post(shop, path, body, authorization=old)
    token, payment_hash = challenged(answer)
    assert answer.json()["sessionId"] != shop.session_id and answer.headers["x-should-retry"] == "false"
    await shop.api.pay({"paymentHash": payment_hash})
    answer = await post(shop, path, body, authorization=paid_with(shop, token))
    assert answer.status_code == 200, answer.text


async def test_no_challenge_is_over_a_request_that_can_not_be_answered(shop: Shop) -> None:
    old = paid_with(shop, shop.key)
    await close(shop)
    answer = await post(shop, "/ask", {"request": "say hello", "model": "none"}, authorization=old)
    assert (answer.status_code, answer.json()["code"]) == (410, "closed")
    assert "www-authenticate" not in answer.headers


async def test_an_expired_session_says_how_to_get_back_what_is_left(shop: Shop) -> None:
    old = paid_with(shop, shop.key)
    shop.api.world.offset_ms += 2 * 86_400_000
    answer = await post(shop, "/v1/messages", CALL, authorization=old)
    challenged(answer)
    assert "get back what is left" in answer.json()["error"]["message"]


async def test_a_session_that_is_not_in_the_store_any_more_is_a_fresh_challenge(shop: Shop) -> None:
    gone = MacaroonId(hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest(), f"ses_{'a' * 32}", 1)
    challenged(await post(shop, "/v1/messages", CALL, authorization=f"L402 {mint(MACAROON_KEY, gone)}:{PREIMAGE}"))


async def test_the_same_key_gets_the_same_fresh_challenge(shop: Shop) -> None:
    key = {"idempotency-key": "mine"}
    first, paid = challenged(await post(shop, "/v1/messages", CALL, **key))
    await shop.api.pay({"paymentHash": paid})
    session = verify(MACAROON_KEY, first)[0].session_id
    await shop.api.http.post(f"/sessions/{session}/close", headers={"authorization": f"Bearer {first}"})
    old = {"authorization": paid_with(shop, first), "idempotency-key": "another"}
    again = [challenged(await post(shop, "/v1/messages", CALL, **{**old, **key})) for _ in range(2)]
    assert again[0] == again[1] and again[0][1] != paid


async def test_without_a_preimage_and_at_the_session_s_own_path_it_is_over(shop: Shop) -> None:
    old = paid_with(shop, shop.key)
    await close(shop)
    bearer = await post(shop, "/v1/messages", CALL, authorization=f"Bearer {shop.key}")
    own = await post(shop, f"/sessions/{shop.session_id}/request", {"request": "hi"}, authorization=old)
    for answer in (bearer, own):
        assert (answer.status_code, answer.json()["code"]) == (410, "closed")
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/messages", CHAT])
async def test_a_used_up_session_is_a_challenge_over_its_own_top_up(shop: Shop, path: str) -> None:
    token, payment_hash = topped_up(await post(shop, path, LONG, authorization=paid_with(shop, shop.key)), shop)
    await shop.api.pay({"paymentHash": payment_hash})
    answer = await post(shop, path, LONG, authorization=paid_with(shop, token))
    assert answer.status_code == 200, answer.text
    assert (await shop.show())["depositedMsat"] > 100_000


async def test_a_top_up_that_is_not_seen_yet_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.http.sessions.l402._SETTLES_WITHIN_S", 0.05)
    answer = await post(shop, "/v1/messages", LONG, authorization=paid_with(shop, shop.key))
    _, payment_hash = topped_up(answer, shop)
    # The fake node's invoices have other hashes than the one of this preimage.
    monkeypatch.setattr("satmeter.http.request.auth._pays", lambda preimage, of: of == payment_hash)
    token = mint(MACAROON_KEY, MacaroonId(payment_hash, shop.session_id, 1))
    answer = await post(shop, "/v1/messages", LONG, authorization=f"L402 {token}:{PREIMAGE}")
    told = answer.json()
    assert (answer.status_code, told["code"]) == (402, "insufficient_balance")
    assert (told["retryAction"], told["paymentState"], answer.headers["retry-after"]) == ("wait", "in_flight", "2")
    assert "www-authenticate" not in answer.headers and "topUpInvoice" not in told


async def test_the_credential_of_a_top_up_allows_no_more_than_the_one_before(shop: Shop) -> None:
    caveats = ["actions = llm,topup", "name = helper"]
    macaroon, preimage = paid_with(shop, shop.key).removeprefix("L402 ").split(":")
    old = f"L402 {attenuate(macaroon, caveats)}:{preimage}"
    token, _ = topped_up(await post(shop, "/v1/messages", LONG, authorization=old), shop)
    assert read(token)[1] == caveats


async def test_a_credential_with_a_limit_of_its_own_gets_the_invoice_alone(shop: Shop) -> None:
    """A new macaroon would have a new count, and its limit could be spent once more."""
    macaroon, preimage = paid_with(shop, shop.key).removeprefix("L402 ").split(":")
    old = f"L402 {attenuate(macaroon, ['max_msat = 100000000'])}:{preimage}"
    answer = await post(shop, "/v1/messages", LONG, authorization=old)
    assert answer.status_code == 402 and answer.json()["topUpInvoice"] and "www-authenticate" not in answer.headers


@pytest.mark.parametrize("preimage", ["", "00" * 32])
async def test_without_the_preimage_a_wallet_hears_that_the_macaroon_alone_will_do(shop: Shop, preimage: str) -> None:
    answer = await post(shop, "/v1/messages", CALL, authorization=f"L402 {shop.key}:{preimage}")
    assert answer.status_code == 401 and "`Authorization: Bearer <macaroon>`" in answer.json()["error"]["message"]
    assert (await post(shop, "/v1/messages", CALL, authorization=f"Bearer {shop.key}")).status_code == 200
