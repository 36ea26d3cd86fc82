"""A change of the root key, as clients see it: what they were given goes on, and what they repeat is found again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from typer.testing import CliRunner

from satmeter.actors.domain.webhooks import secret_of
from satmeter.config.root_key import Keys
from satmeter.http.app import create_app
from satmeter.scripts.commands import app
from tests.helpers.http.fronts import (
    ID_KEY,
    MACAROON_KEY,
    PAY_PAGE_KEY,
    RECEIPT_KEY,
    WEBHOOK_KEY,
    WITHDRAW_KEY,
    Api,
    client_of,
)
from tests.helpers.http.messages import shop_over

OLD = Keys(ID_KEY, MACAROON_KEY, RECEIPT_KEY, WEBHOOK_KEY, WITHDRAW_KEY, PAY_PAGE_KEY, "old")
NEW = Keys(b"new ids", b"new macaroons", b"new receipts", b"new webhooks", b"new withdrawals", b"new pages", "new")
KEYED = {"Idempotency-Key": "a-key-of-mine"}
HOOK = {"url": "https://example.org/hook"}
ASKED = {"request": "say hello"}


@pytest_asyncio.fixture
async def before(redis: Redis) -> AsyncIterator[Api]:
    async with shop_over(redis) as shop:
        yield shop.api


@asynccontextmanager
async def front(api: Api, keys: Keys, previous: Keys | None) -> AsyncIterator[httpx.AsyncClient]:
    """Another front over the same hosts, with these keys."""
    state = replace(
        api.state,
        id_key=keys.ids,
        macaroon_key=keys.macaroons,
        receipt_key=keys.receipts,
        webhook_key=keys.webhooks,
        withdraw_key=keys.withdrawals,
        pay_page_key=keys.pay_pages,
        previous_keys=previous,
    )
    async with client_of(create_app(state)) as client:
        yield client


async def opened(api: Api, client: httpx.AsyncClient, **headers: str) -> tuple[str, dict[str, str]]:
    """A session with its deposit paid: its path, and the header with its macaroon."""
    made = (await client.post("/sessions", json={"amountSats": 1_000}, headers=headers)).json()
    await api.pay(made["depositInvoice"])
    return f"/sessions/{made['sessionId']}", {"Authorization": f"Bearer {made['macaroon']}"}


async def test_a_session_goes_on_until_its_key_is_forgotten(before: Api) -> None:
    path, credential = await opened(before, before.http)
    async with front(before, NEW, OLD) as during:
        answer = await during.post(f"{path}/request", json=ASKED, headers=credential)
        assert answer.json()["state"] == "complete", answer.text
        new_path, new_credential = await opened(before, during)
    async with front(before, NEW, None) as after:
        assert (await after.get(path, headers=credential)).status_code == 401
        assert (await after.get(new_path, headers=new_credential)).status_code == 200
    assert (await before.http.get(new_path, headers=new_credential)).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {**ASKED, "webhook": HOOK}),
        ("/sessions", {"amountSats": 1_000, "webhook": {**HOOK, "lowBalanceSats": 100}}),
    ],
)
async def test_what_is_repeated_under_its_key_is_the_same_and_its_secrets_too(
    before: Api, path: str, body: dict[str, Any]
) -> None:
    made = (await before.http.post(path, json=body, headers=KEYED)).json()
    async with front(before, NEW, OLD) as during:
        again = await during.post(path, json=body, headers=KEYED)
        assert (again.status_code, again.json()) == (201, made)
        other = (await during.post(path, json=body, headers={"Idempotency-Key": "another"})).json()
    # A server that still mints with the old key finds what the new one made.
    async with front(before, OLD, NEW) as beside:
        found = await beside.post(path, json=body, headers={"Idempotency-Key": "another"})
        assert (found.status_code, found.json()) == (201, other)
    named = other.get("jobId") or other["sessionId"]
    assert other["webhook"]["secret"] == secret_of(NEW.webhooks, named)


async def test_an_l402_credential_goes_on_and_is_challenged_with_the_new_key(before: Api) -> None:
    challenge = await before.http.post("/ask", json=ASKED)
    assert challenge.status_code == 402
    token = challenge.headers["www-authenticate"].split('macaroon="')[1].split('"')[0]
    await before.pay(challenge.json()["depositInvoice"])
    async with front(before, NEW, OLD) as during:
        answer = await during.post("/ask", json=ASKED, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
    async with front(before, NEW, None) as after:
        assert (await after.post("/ask", json=ASKED, headers={"Authorization": f"Bearer {token}"})).status_code == 401


async def test_a_receipt_of_the_old_key_verifies_by_the_document_of_today(before: Api, tmp_path: Path) -> None:
    path, credential = await opened(before, before.http)
    asked = (await before.http.post(f"{path}/request", json=ASKED, headers=credential)).json()
    receipt = f"{path}/requests/{asked['requestId']}/receipt"
    (tmp_path / "old.json").write_text((await before.http.get(receipt, headers=credential)).text)
    async with front(before, NEW, OLD) as during:
        (tmp_path / "new.json").write_text((await during.get(receipt, headers=credential)).text)
        (tmp_path / "server.json").write_text((await during.get("/.well-known/satmeter.json")).text)
    signers = {json.loads((tmp_path / name).read_text())["receipt"]["keyId"] for name in ("old.json", "new.json")}
    assert len(signers) == 2
    for name in ("old.json", "new.json"):
        told = CliRunner().invoke(
            app, ["receipt", "verify", str(tmp_path / name), "--key", str(tmp_path / "server.json")]
        )
        assert told.exit_code == 0, told.output


async def test_a_closed_session_spends_nothing_by_any_of_its_credentials(before: Api) -> None:
    path, credential = await opened(before, before.http)
    assert (await before.http.post(f"{path}/close", json={}, headers=credential)).status_code == 200
    for call in (
        before.http.post(f"{path}/request", json=ASKED, headers=credential),
        before.http.post("/ask", json=ASKED, headers=credential),
        before.http.post(f"{path}/topup", json={"amountSats": 100}, headers=credential),
    ):
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (410, "closed")
    # Its holder still sees what is owed, and may send an invoice for it.
    assert (await before.http.get(path, headers=credential)).json()["refund"]["owedMsat"] == 1_000_000
