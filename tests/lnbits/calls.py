"""Calls to an LNbits as a user of its wallets makes them, over whatever node is behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from tests.lnbits.server import Lnbits


@dataclass(frozen=True)
class LnbitsCalls:
    """The wallets of an LNbits: the payee makes invoices, the payer pays."""

    lnbits: Lnbits
    http: httpx.Client

    def invoice(self, amount_sats: int) -> str:
        """Return the text of an invoice of the payee's wallet."""
        body = {"out": False, "amount": amount_sats, "unit": "sat", "memo": "by LNbits"}
        return str(self.call("POST", "/api/v1/payments", self.lnbits.payee.invoice_key, body)["bolt11"])

    def pay(self, payment_request: str) -> httpx.Response:
        """Have the payer's wallet pay an invoice."""
        headers = {"X-Api-Key": self.lnbits.payer.admin_key}
        return self.http.post("/api/v1/payments", headers=headers, json={"out": True, "bolt11": payment_request})

    def payment(self, key: str, payment_hash: str) -> Any:
        """Return what LNbits says of a payment, after it has asked its node."""
        return self.call("GET", f"/api/v1/payments/{payment_hash}", key)

    def listed(self, key: str, payment_hash: str) -> Any:
        """Return the payment's only row in LNbits's list."""
        (row,) = self.call("GET", f"/api/v1/payments?payment_hash[eq]={payment_hash}", key)
        return row

    def call(self, method: str, path: str, key: str, body: Any = None) -> Any:
        """Return LNbits's answer."""
        answer = self.http.request(method, path, headers={"X-Api-Key": key}, json=body)
        assert answer.is_success, answer.text
        return answer.json()
