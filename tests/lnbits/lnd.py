"""As much of LND's REST API as a wallet client pays by, before a wallet of LNbits. A process of its own.

A client that waits in native code lets no other Python thread of its process run, so this can't be one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from satmeter.actors.domain.money import MSAT_PER_SAT
from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.helpers.patience import PATIENCE_S
from tests.lnbits.server import Lnbits

MACAROON = "deadbeef"


@contextlib.contextmanager
def lnd_before(lnbits: Lnbits) -> Iterator[str]:
    """The URL of a node that pays from the payer's wallet."""
    command = [sys.executable, "-m", "tests.lnbits.lnd", lnbits.url, lnbits.payer.admin_key, lnbits.payee.invoice_key]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()


class _Node(BaseHTTPRequestHandler):
    wallet: httpx.Client
    payer_key: str
    payee_key: str

    def do_POST(self) -> None:
        """POST /v2/router/send: pays, and tells the preimage."""
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = self.path == "/v2/router/send" and self.headers["grpc-metadata-macaroon"] == MACAROON
        self._answer(200 if known else 404, self._pay(order["payment_request"]) if known else {})

    def _pay(self, invoice: str) -> dict[str, Any]:
        said = read_invoice(invoice)
        paid = self.wallet.post(
            "/api/v1/payments", headers={"X-Api-Key": self.payer_key}, json={"out": True, "bolt11": invoice}
        )
        if paid.status_code != 201:
            return {
                "result": {
                    "status": "FAILED",
                    "payment_hash": said.payment_hash,
                    "failure_reason": "FAILURE_REASON_ERROR",
                }
            }
        # Between two wallets of its own LNbits keeps the preimage with the invoice.
        found = self.wallet.get(f"/api/v1/payments/{said.payment_hash}", headers={"X-Api-Key": self.payee_key}).json()
        sats = str(said.amount_msat.value // MSAT_PER_SAT)
        told = {"status": "SUCCEEDED", "payment_hash": said.payment_hash, "payment_preimage": found["preimage"]}
        return {"result": {**told, "value_sat": sats, "fee_sat": "0"}}

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    _, url, _Node.payer_key, _Node.payee_key = sys.argv
    _Node.wallet = httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Node)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
