"""The client with a real LNbits wallet, paying a server whose own wallet is at the same LNbits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.client import Invoice, LnbitsWallet, PaymentFailedError, Satmeter
from satmeter.client.driver_sync import Runner
from satmeter.client.flow import Flow, Retries
from satmeter.client.wallets import Outcome
from satmeter.client.wire import Server
from tests.helpers.served import Served, served
from tests.lnbits.server import Lnbits


@pytest.fixture(scope="module")
def paid_server(lnbits: Lnbits) -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as directory,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS="1",
            LNBITS_URL=lnbits.url,
            LNBITS_INVOICE_KEY=lnbits.payee.invoice_key,
            LNBITS_ADMIN_KEY=lnbits.payee.admin_key,
        ) as running,
    ):
        yield running


def wallet_msat(lnbits: Lnbits) -> int:
    answer = httpx.get(f"{lnbits.url}/api/v1/wallet", headers={"X-Api-Key": lnbits.payer.admin_key}, trust_env=False)
    return int(answer.json()["balance"])


def perform(flow: Flow[Any]) -> Any:
    runner = Runner(20, 5, None)
    try:
        return runner.run(flow)
    finally:
        runner.close()


def invoice_of(lnbits: Lnbits, amount_sats: int) -> Invoice:
    text = perform(LnbitsWallet(lnbits.url, lnbits.payee.admin_key).receive(SERVER, amount_sats, "a test"))
    said = read_invoice(text)
    later = datetime.now(UTC) + timedelta(hours=1)
    return Invoice(payment_request=text, payment_hash=said.payment_hash, amount_sats=amount_sats, expires_at=later)


SERVER = Server("http://127.0.0.1:9", Retries())


def test_a_session_and_a_job_are_paid_and_what_is_left_comes_back(
    lnbits: Lnbits, paid_server: Served, tmp_path: Path
) -> None:
    before_msat = wallet_msat(lnbits)
    wallet, file = LnbitsWallet(lnbits.url, lnbits.payer.admin_key), tmp_path / "session.json"
    with Satmeter(paid_server.url, wallet=wallet, budget_sats=3_000, deposit_sats=500, session_file=file) as client:
        assert not client.has_stub_node()
        assert client.ask("Name three uses of a sextant.", max_tokens=100).state == "complete"
        assert wallet_msat(lnbits) == before_msat - 500_000
        job = client.buy_job("Say hello", max_sats=2_000)
        assert job.state == "complete" and job.refund is not None
        status = client.close_session()
        assert status.refund.state == "paid"
        back_msat = status.refund.paid_msat + job.refund.paid_msat
        assert wallet_msat(lnbits) == before_msat - client.paid_sats * 1_000 + back_msat


def test_an_invoice_is_paid_once_however_often_it_is_ordered(lnbits: Lnbits) -> None:
    wallet, before_msat = LnbitsWallet(lnbits.url, lnbits.payer.admin_key), wallet_msat(lnbits)
    invoice = invoice_of(lnbits, 21)
    assert perform(wallet.look_up(invoice)).outcome is Outcome.ABSENT
    for _ in range(3):
        assert perform(wallet.pay(SERVER, invoice)).outcome is Outcome.PAID
    assert perform(wallet.look_up(invoice)).outcome is Outcome.PAID
    assert wallet_msat(lnbits) == before_msat - 21_000


def test_a_wallet_with_too_little_has_paid_nothing_for_certain(lnbits: Lnbits) -> None:
    report = perform(LnbitsWallet(lnbits.url, lnbits.payer.admin_key).pay(SERVER, invoice_of(lnbits, 5_000_000)))
    assert report.outcome is Outcome.FAILED


def test_a_wrong_key_orders_nothing(lnbits: Lnbits, paid_server: Served) -> None:
    with (
        Satmeter(paid_server.url, wallet=LnbitsWallet(lnbits.url, "no-key-of-anybody"), budget_sats=500) as client,
        pytest.raises(PaymentFailedError, match="admin key"),
    ):
        client.open(200)
    invoice_key = LnbitsWallet(lnbits.url, lnbits.payer.invoice_key)
    assert perform(invoice_key.pay(SERVER, invoice_of(lnbits, 5))).outcome is Outcome.FAILED
