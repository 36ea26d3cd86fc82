"""Payment pages over a real host and store: one invoice for a stranger with a phone, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from xml.etree import ElementTree

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.errors import Code, Refusal, unavailable
from satmeter.actors.domain.payments.invoices import InvoicePurpose, InvoiceState, ShowInvoice, ShownInvoice
from satmeter.actors.domain.session.messages import Ask, TopUp, TopUpInvoice
from satmeter.http.payments.pay_pages import PayPages
from tests.helpers.http.fronts import Api, Json, api_over
from tests.helpers.http.messages import HELLO, MODEL
from tests.helpers.http.stubs import SESSION, stubbed
from tests.helpers.jobs import EVAL_INVOICE

PUBLIC = "https://satmeter.example"
LOW = Refusal(Code.INSUFFICIENT_BALANCE, "Too low.", {"requiredMsat": 50_000, "balanceMsat": 1_000})
CALLS: dict[str, Json] = {
    "/ask": {"request": "say hello"},
    "/v1/messages": {"model": MODEL, "max_tokens": 50, "messages": HELLO},
    "/v1/chat/completions": {"model": MODEL, "messages": HELLO},
    "/v1/responses": {"model": MODEL, "input": "hi"},
}


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis) as front:
        yield front


async def status(api: Api, page: str) -> Json:
    answer = await api.http.get(f"{page}/invoice")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), answer.text
    told: Json = answer.json()
    return told


async def fresh_status(api: Api, page: str) -> Json:
    """Return the status once the front asks the actor again."""
    api.world.offset_ms += 1_500
    return await status(api, page)


@pytest.mark.parametrize("path", CALLS)
async def test_a_402_of_every_dialect_has_the_page_of_its_invoice(api: Api, path: str) -> None:
    answer = await api.http.post(path, json=CALLS[path])
    told = answer.json()
    assert answer.status_code == 402
    assert told["payPage"] == told["depositInvoice"]["payPage"]
    assert answer.headers["link"] == f'<{told["payPage"]}>; rel="payment"'
    assert (await status(api, told["payPage"]))["invoice"] == told["depositInvoice"]


async def test_with_the_servers_address_the_page_is_absolute_and_in_the_sentence(redis: Redis) -> None:
    async with api_over(redis, public_url=PUBLIC) as api:
        told = (await api.http.post("/ask", json={"request": "say hello"})).json()
        assert told["payPage"].startswith(f"{PUBLIC}/pay/") and told["payPage"] in told["error"]
        assert told["error"].endswith(told["depositInvoice"]["paymentRequest"])


async def test_a_402_for_a_balance_that_is_too_small_has_the_page_of_a_top_up() -> None:
    async with stubbed() as front:
        front.plays(Ask, LOW)
        front.plays(TopUp, TopUpInvoice(EVAL_INVOICE))
        answer = await front.post("/request", {"request": "say hello"})
        told = answer.json()
        page = PayPages(front.state).path(SESSION, EVAL_INVOICE.payment_hash)
        assert (answer.status_code, told["code"]) == (402, "insufficient_balance")
        assert told["payPage"] == told["topUpInvoice"]["payPage"] == page
        assert answer.headers["link"] == f'<{page}>; rel="payment"'


async def test_a_job_has_a_page_for_each_of_its_invoices(api: Api) -> None:
    job = await api.create()
    page = job["evalInvoice"]["payPage"]
    assert await status(api, page) == {"state": "open", "purpose": "evaluation", "invoice": job["evalInvoice"]}
    await api.pay(job["evalInvoice"])
    work = (await api.job_in(job["jobId"], "awaiting_work_payment"))["workInvoice"]
    assert await fresh_status(api, page) == {"state": "paid", "purpose": "evaluation"}
    assert await status(api, work["payPage"]) == {"state": "open", "purpose": "work", "invoice": work}


async def test_a_stranger_with_the_page_learns_nothing_else(api: Api) -> None:
    opened = (await api.http.post("/sessions", json={"amountSats": 100})).json()
    job = await api.create("a secret request")
    for invoice, secrets in (
        (opened["depositInvoice"], [opened["sessionId"], opened["macaroon"]]),
        (job["evalInvoice"], [job["jobId"], "a secret request"]),
    ):
        page = invoice["payPage"]
        shown = [await api.http.get(f"{page}{end}") for end in ("", "/invoice", "/qr.svg")]
        seen = "".join(f"{answer.text}{answer.headers}" for answer in shown) + page
        assert [secret for secret in secrets if secret in seen] == []
        assert "preimage" not in seen and "07" * 32 not in seen


async def test_the_page_is_for_a_person_without_a_script_too(api: Api) -> None:
    invoice = (await api.create())["evalInvoice"]
    answer = await api.http.get(invoice["payPage"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-robots-tag"] == "noindex"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert f"lightning:{invoice['paymentRequest']}" in answer.text and f"{invoice['payPage']}/qr.svg" in answer.text
    assert f"Pay {invoice['amountSats']} sats" in answer.text
    await api.pay(invoice)
    api.world.offset_ms += 1_500
    paid = await api.http.get(invoice["payPage"])
    assert "<h1>Paid</h1>" in paid.text and invoice["paymentRequest"] not in paid.text


async def test_the_code_is_a_picture_of_the_open_invoice_and_goes_with_it(api: Api) -> None:
    invoice = (await api.create())["evalInvoice"]
    answer = await api.http.get(f"{invoice['payPage']}/qr.svg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert ElementTree.fromstring(answer.content).tag.endswith("svg")
    await api.pay(invoice)
    api.world.offset_ms += 1_500
    assert (await api.http.get(f"{invoice['payPage']}/qr.svg")).status_code == 404


async def test_no_other_invoice_has_a_page_here(api: Api) -> None:
    job = await api.create()
    foreign = (await api.http.post("/dev/stub/invoice", json={"amountSats": 5})).json()
    assert "payPage" not in foreign
    names = [foreign["paymentRequest"], foreign["paymentHash"], job["evalInvoice"]["paymentHash"], job["jobId"]]
    for name in [*names, "A" * 68, "x", job["evalInvoice"]["payPage"].removeprefix("/pay/").swapcase()]:
        for end in ("", "/invoice", "/qr.svg"):
            answer = await api.http.get(f"/pay/{name}{end}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_many_looks_at_one_page_are_one_look_at_the_actor() -> None:
    async with stubbed() as front:
        front.plays(ShowInvoice, ShownInvoice(InvoiceState.OPEN, InvoicePurpose.DEPOSIT, EVAL_INVOICE))
        page = PayPages(front.state).path(SESSION, EVAL_INVOICE.payment_hash)
        for _ in range(20):
            assert (await front.http.get(f"{page}/invoice")).status_code == 200
        assert len(front.router.commands(ShowInvoice)) == 1


async def test_the_page_of_an_actor_that_can_not_be_seen_is_a_503() -> None:
    async with stubbed() as front:
        front.plays(ShowInvoice, unavailable("The store"))
        page = PayPages(front.state).path(SESSION, EVAL_INVOICE.payment_hash)
        answer = await front.http.get(page)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_clock_that_is_set_back_does_not_show_an_invoice_as_open_for_as_long(api: Api) -> None:
    invoice = (await api.create())["evalInvoice"]
    assert (await status(api, invoice["payPage"]))["state"] == "open"
    await api.pay(invoice)
    api.world.offset_ms -= 3_600_000
    assert (await status(api, invoice["payPage"]))["state"] == "paid"
