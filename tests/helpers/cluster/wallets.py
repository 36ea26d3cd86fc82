"""Wallets at a real LNbits: the server's, and a client's that pays and is paid."""

from __future__ import annotations

from typing import Any

import httpx

from tests.helpers.cluster.sessions import Client
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served
from tests.lnbits.server import Lnbits, Wallet


def at_wallet(lnbits: Lnbits, wallet: Wallet) -> dict[str, str]:
    """The settings of a server with this wallet."""
    keys = {"LNBITS_INVOICE_KEY": wallet.invoice_key, "LNBITS_ADMIN_KEY": wallet.admin_key}
    return {"LNBITS_URL": lnbits.url, **keys}


def wallet_pays(lnbits: Lnbits, invoice: dict[str, Any]) -> None:
    answer = httpx.post(
        f"{lnbits.url}/api/v1/payments",
        headers={"X-Api-Key": lnbits.payer.admin_key},
        json={"out": True, "bolt11": invoice["paymentRequest"]},
        timeout=PATIENCE_S,
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text


def wallet_invoice(lnbits: Lnbits, amount_sats: int) -> str:
    """An invoice of the client's wallet."""
    answer = httpx.post(
        f"{lnbits.url}/api/v1/payments",
        headers={"X-Api-Key": lnbits.payer.admin_key},
        json={"out": False, "amount": amount_sats, "memo": "my rest"},
        timeout=PATIENCE_S,
        trust_env=False,
    )
    invoice: str = answer.json()["bolt11"]
    return invoice


def wallet_msat(lnbits: Lnbits) -> int:
    """Return the balance of the client's wallet."""
    answer = httpx.get(
        f"{lnbits.url}/api/v1/wallet",
        headers={"X-Api-Key": lnbits.payer.admin_key},
        timeout=PATIENCE_S,
        trust_env=False,
    )
    return int(answer.json()["balance"])


def opened(server: Served) -> tuple[Client, dict[str, Any]]:
    """A session, and the invoice of its deposit."""
    created = server.client.post("/sessions", json={"amountSats": 1_000}).json()
    return Client(server, created["sessionId"], created["macaroon"]), created["depositInvoice"]
