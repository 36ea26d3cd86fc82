"""`satmeter.client` against a real server: everything that it does, with and without coroutines, and through faults."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from satmeter.client import (
    AsyncSatmeter,
    BudgetExceededError,
    CaveatViolatedError,
    NoAnswerError,
    NotFoundError,
    PriceTooHighError,
    Retries,
    Satmeter,
    SatmeterError,
    StubWallet,
)
from satmeter.scripts.receipts.receipt import jws_of, keys_in, verified
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served


def test_a_session_from_its_deposit_to_its_refund(server: Served, tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=2_000, deposit_sats=300, session_file=file) as client:
        answer = client.ask("Name three uses of a sextant.", max_tokens=100)
        assert answer.state == "complete" and answer.text and answer.debited_msat > 0
        assert client.session().balance_msat == answer.balance_msat
        assert client.top_up(200).deposited_msat == 500_000
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=2_000, session_file=file) as client:
        with client.stream("And three of an astrolabe?", max_tokens=300) as stream:
            pieces = list(stream)
        assert len(pieces) > 3 and "".join(pieces) == stream.answer.result
        kinds = [entry.kind for entry in client.ledger()]
        assert kinds.count("deposit") == 2 and kinds.count("debit") == 2
        status = client.close_session()
        assert status.state == "closed" and status.refund.state == "paid" and client.paid_sats == 500
        assert status.refund.owed_msat < 3_000 and not client.has_session


def test_a_request_is_charged_once_under_its_key(server: Served) -> None:
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=500, deposit_sats=300) as client:
        first = client.ask("once", idempotency_key="k")
        assert client.ask("once", idempotency_key="k") == first
        assert client.session().spent_msat == first.debited_msat


def test_a_narrowed_macaroon_does_what_it_may(server: Served) -> None:
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=500, deposit_sats=300) as client:
        client.open(300)
        helper = client.narrow(actions=["request"], name="helper")
        with Satmeter(server.url, macaroon=helper) as helped:
            helped.ask("hello", max_tokens=50)
            with pytest.raises(CaveatViolatedError, match="action") as caught:
                helped.session()
            assert caught.value.caveat == "actions = request"
        assert {entry.spender for entry in client.ledger() if entry.kind == "debit"} == {"helper"}
        with pytest.raises(CaveatViolatedError):
            client.ask("hello", max_msat=1)


def test_a_job_is_bought_for_no_more_than_allowed_and_what_was_too_much_comes_back(server: Served) -> None:
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=5_000) as client:
        job = client.buy_job("Name three uses of a sextant.", max_sats=3_000)
        assert job.state == "complete" and job.result and job.pricing_breakdown and job.refund
        assert client.paid_sats == job.eval_invoice.amount_sats + job.pricing_breakdown.amount_sats
        assert job.refund.state in ("paid", "none") and job.refund.owed_msat < 3_000
        rejected = client.buy_job("[reject] this", max_sats=3_000)
        assert rejected.state == "rejected" and rejected.reason
        with pytest.raises(PriceTooHighError) as caught:
            client.buy_job("Write a long essay. " * 200, max_sats=11)
        assert caught.value.max_sats == 11
        declined = client.buy_job("Say hello", max_sats=3_000, decide=lambda job: False)
        assert declined.state == "awaiting_work_payment"


def test_receipts_are_what_the_server_signed(server: Served) -> None:
    keys = keys_in(httpx.get(f"{server.url}/.well-known/satmeter.json").content)
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=5_000, deposit_sats=300) as client:
        answer = client.ask("Name three uses of a sextant.", max_tokens=100)
        of_request = client.request_receipt(answer.request_id)
        job = client.buy_job("Name three uses of a sextant.", max_sats=3_000)
        of_job = client.job_receipt(job.job_id)
        with pytest.raises(NotFoundError):
            client.request_receipt("req_of/nobody")
    assert of_request.receipt["chargedMsat"] == answer.debited_msat and of_job.receipt["jobId"] == job.job_id
    for receipt in (of_request, of_job):
        jws, shown = jws_of(receipt.to_json())
        assert shown == verified(jws, keys, None)


def test_calls_from_many_threads_never_pay_more_than_the_budget(server: Served) -> None:
    options = {"budget_sats": 250, "deposit_sats": 100, "top_up_sats": 100}
    with Satmeter(server.url, wallet=StubWallet(), **options) as client:  # type: ignore[arg-type]

        def ask(number: int) -> int:
            try:
                return client.ask(f"{number} " * 400, max_tokens=1_000).debited_msat
            except BudgetExceededError:
                return 0

        with ThreadPoolExecutor(16) as pool:
            debits = list(pool.map(ask, range(60)))
        status = client.session()
        assert 200 <= client.paid_sats <= 250 and status.deposited_msat == client.paid_sats * 1_000
        assert status.spent_msat == sum(debits) and 0 in debits


async def test_the_asynchronous_client_does_the_same(server: Served) -> None:
    paid: list[int] = []

    async def pay(invoice: object) -> None:
        await asyncio.sleep(0)
        paid.append(invoice.amount_sats)  # type: ignore[attr-defined]
        async with httpx.AsyncClient() as http:
            hash_ = invoice.payment_hash  # type: ignore[attr-defined]
            (await http.post(f"{server.url}/dev/stub/pay/{hash_}")).raise_for_status()

    from satmeter.client import CallbackWallet

    async with AsyncSatmeter(server.url, wallet=CallbackWallet(pay), budget_sats=300, deposit_sats=200) as client:
        answers = await asyncio.gather(*[client.ask(f"question {number}", max_tokens=50) for number in range(8)])
        assert paid == [200] and len({answer.request_id for answer in answers}) == 8
        async with client.stream("tell me more", max_tokens=300) as stream:
            text = "".join([piece async for piece in stream])
        answer = await stream.answer()
        assert text == answer.result and (await client.session()).balance_msat == answer.balance_msat
        receipt = await client.request_receipt(answer.request_id)
        assert receipt.receipt["chargedMsat"] == answer.debited_msat
        status = await client.close_session()
        assert status.state == "closed" and status.refund.state == "owed"


async def test_leaving_a_stream_in_the_middle_pays_for_what_was_written(server: Served) -> None:
    async with AsyncSatmeter(server.url, wallet=StubWallet(), budget_sats=300, deposit_sats=200) as client:
        async with client.stream("tell me a long story", max_tokens=500) as stream:
            assert await anext(stream)
        with pytest.raises(SatmeterError, match="closed before its end"):
            await stream.answer()


class Faults(httpx.BaseTransport):
    """Loses answers after the server has given them, and says 503 before it is asked."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.lose: list[str] = []
        self.refuse: list[str] = []
        self.sent: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request.url.path)
        last = request.url.path.rpartition("/")[2]
        if last in self.refuse:
            self.refuse.remove(last)
            body = {"error": "Later.", "code": "unavailable", "requestId": "req_1"}
            return httpx.Response(503, json=body, headers={"Retry-After": "0"})
        answer = self.inner.handle_request(request)
        if last in self.lose:
            self.lose.remove(last)
            answer.read()
            answer.close()
            raise httpx.ReadError("cut off", request=request)
        return answer

    def close(self) -> None:
        self.inner.close()


def test_answers_that_are_lost_cost_nothing_twice(server: Served) -> None:
    faults = Faults()
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=400, deposit_sats=300, transport=faults) as client:
        faults.lose, faults.refuse = ["sessions"], ["sessions"]
        client.open(300)
        faults.lose, faults.refuse = ["request", "request"], ["request"]
        answer = client.ask("hello")
        assert faults.sent.count(f"/sessions/{client.session().session_id}/request") == 4
        status = client.session()
        assert (status.spent_msat, status.deposited_msat) == (answer.debited_msat, 300_000)
        faults.lose = ["close"]
        assert client.close_session().refund.state == "paid" and client.paid_sats == 300


def test_a_server_that_is_down_is_given_up_and_one_that_comes_back_is_not(server: Served) -> None:
    with Satmeter("http://127.0.0.1:9", retries=Retries(2, 5)) as client, pytest.raises(NoAnswerError, match="2 attem"):
        client.pricing()
    with Satmeter(server.url, wallet=StubWallet(), budget_sats=400, deposit_sats=300) as client:
        client.open(300)
        server.kill("satmeter.scripts.server.front")
        assert client.ask("hello").state == "complete"
        assert client.session().spent_msat > 0


def test_two_clients_of_one_file_share_its_budget(server: Served, tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    def ask(number: int) -> int:
        file = tmp_path / "session.json"
        with Satmeter(server.url, wallet=StubWallet(), budget_sats=300, deposit_sats=200, session_file=file) as client:
            barrier.wait(PATIENCE_S)
            client.ask(f"question {number}")
            return client.paid_sats

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == [200, 200]
