"""An LNbits in memory, for the client's wallet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.client.flow import Reply, Request

LNBITS = "http://lnbits.test"
ADMIN_KEY = "the-admin-key-that-must-not-show"
Json = dict[str, Any]


def reply(status: int, body: Any, **headers: str) -> Reply:
    return Reply(status, {"content-type": "application/json", **headers}, msgspec.json.encode(body))


@dataclass
class FakeLnbits:
    """Pays as LNbits does: no invoice twice. `script` is what becomes of the next orders; then they are paid.

    `pending` is paid when it is looked at for the third time, `stuck` never ends, `no-route` fails in the call itself.
    `course`: what the list says of the next order from so many seconds after it, None for nothing; `answer` is the
    paying call's answer to it.
    """

    world: Any
    script: list[str] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)
    course: list[tuple[float, str | None]] = field(default_factory=list)
    answer: Reply | None = None
    _begun_s: dict[str, float] = field(default_factory=dict)
    _courses: dict[str, list[tuple[float, str | None]]] = field(default_factory=dict)

    @property
    def paid_sats(self) -> int:
        return sum(int(amount) for amount, status, _ in self.rows.values() if status == "success") // 1_000

    def handle(self, request: Request) -> Reply:
        if request.headers.get("X-Api-Key") != ADMIN_KEY:
            return reply(401, {"detail": "no"})
        if request.method == "GET":
            (payment_hash,) = parse_qs(urlsplit(request.url).query)["payment_hash[eq]"]
            self._go_on(payment_hash)
            listed = payment_hash in self.rows and self.rows[payment_hash][1] is not None
            found = [self._row(payment_hash)] if listed else []
            return reply(200, {"data": found, "total": len(found)})
        body = msgspec.json.decode(request.body or b"")
        if not body["out"]:
            made = self.world.invoice(body["amount"])
            row = {"payment_hash": made["paymentHash"], "amount": body["amount"] * 1_000, "status": "pending"}
            return reply(201, {**row, "bolt11": made["paymentRequest"]})
        return self._pay(body["bolt11"])

    def _pay(self, bolt11: str) -> Reply:
        said = read_invoice(bolt11)
        self.orders.append(said.payment_hash)
        if said.payment_hash in self.rows:
            return reply(520, {"detail": "Payment already paid.", "status": self.rows[said.payment_hash][1]})
        if self.course:
            self._courses[said.payment_hash], self.course = self.course, []
            self._begun_s[said.payment_hash] = self.world.clock_s
            self.rows[said.payment_hash] = [said.amount_msat.value, None, 0]
            self._go_on(said.payment_hash)
            return self.answer or reply(201, {**self._row(said.payment_hash), "status": "pending"})
        outcome = self.script.pop(0) if self.script else "success"
        if outcome == "no-route":
            self.rows[said.payment_hash] = [said.amount_msat.value, "failed", 0]
            return reply(520, {"detail": "Payment failed: no route.", "status": "failed"})
        if outcome == "refused":
            return reply(520, {"detail": "Insufficient balance.", "status": "failed"})
        looks = {"pending": 3, "stuck": 10**9}.get(outcome, 0)
        self.rows[said.payment_hash] = [said.amount_msat.value, "pending" if looks else outcome, looks]
        if outcome == "success":
            self.world.server.credit(said.payment_hash)
        return reply(201, self._row(said.payment_hash))

    def _go_on(self, payment_hash: str) -> None:
        row = self.rows.get(payment_hash)
        if row is None or row[1] == "success":
            return
        if payment_hash in self._courses:
            elapsed_s = self.world.clock_s - self._begun_s[payment_hash]
            row[1] = [status for from_s, status in self._courses[payment_hash] if from_s <= elapsed_s][-1]
        elif row[1] == "pending":
            row[2] -= 1
            row[1] = "pending" if row[2] else "success"
        if row[1] == "success":
            self.world.server.credit(payment_hash)

    def _row(self, payment_hash: str) -> Json:
        amount, status, _ = self.rows[payment_hash]
        return {"payment_hash": payment_hash, "amount": -amount, "status": status, "bolt11": "x"}
