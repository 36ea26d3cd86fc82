"""Books of a stand-in wallet: its invoices, its payments and its balance."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import description_of, read_invoice
from satmeter.actors.domain.payments.payouts import PayoutTarget
from tests.helpers.invoices import over_hash_of
from tests.lightning.world import FUNDS_SATS, Fate

ROUTE_MSAT = 1_000
"""Cost of every route. A payment within the wallet has none."""
_RESERVE_MSAT = 10_000
_EXPIRY_S = 3_600


class RefusedError(Exception):
    """An error that the wallet answers with: a code of NIP-47, and words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


@dataclass
class Row:
    """An invoice, or a payment. `at` counts the changes of the books, so that the newest row is known."""

    type: str
    invoice: str
    preimage: str
    payment_hash: str
    amount: int
    created_at: int
    expires_at: int
    at: int
    state: str = "pending"
    fees_paid: int = 0
    settled_at: int | None = None
    description: str = ""


@dataclass
class Books:
    """hashes_descriptions: invoices have the hash of their description alone, as those of LNbits's wallet service."""

    clock_s: Callable[[], float]
    rows: list[Row] = field(default_factory=list)
    orders: Counter[str] = field(default_factory=Counter)
    fates: list[Fate] = field(default_factory=list)
    balance_msat: int = FUNDS_SATS * 1_000
    budget_msat: int = 0
    spent_msat: int = 0
    node_key: str = field(default_factory=lambda: secrets.token_hex(32))
    changes: int = 0
    hashes_descriptions: bool = False

    def make_invoice(self, amount_msat: int, description: str, expiry_s: int | None) -> Row:
        row = self._row("incoming", *_signed(self.node_key, amount_msat, description, expiry_s, int(self.clock_s())))
        if self.hashes_descriptions:
            row.invoice, row.description = over_hash_of(description, row.invoice, self.node_key), description
        self.rows.append(row)
        return row

    def invoice(self, payment_hash: str) -> Row | None:
        return self._newest("incoming", payment_hash)

    def payment(self, payment_hash: str) -> Row | None:
        return self._newest("outgoing", payment_hash)

    def receive(self, payment_hash: str, amount_msat: int | None = None) -> Row:
        """An invoice of the wallet's is paid, by the network or by itself."""
        row = self.invoice(payment_hash)
        assert row is not None
        assert row.state == "pending"
        row.amount = row.amount if amount_msat is None else amount_msat
        self._settle(row)
        self.balance_msat += row.amount
        return row

    def order(self, invoice: str) -> Row:
        """Take an order to pay. The fate says what becomes of it."""
        try:
            said = read_invoice(invoice)
        except ValueError:
            raise RefusedError("BAD_REQUEST", "Failed to decode bolt11 invoice") from None
        fate = self.fates.pop(0) if self.fates else Fate.PAID
        self.orders[said.payment_hash] += 1
        earlier = self.payment(said.payment_hash)
        if earlier is not None and earlier.state in ("settled", "pending"):
            raise RefusedError("INTERNAL", "this invoice has already been paid")
        amount = said.amount_msat.value
        if fate is Fate.REFUSED_FUNDS or amount + _RESERVE_MSAT > self.balance_msat:
            raise RefusedError("INSUFFICIENT_BALANCE", "Insufficient balance remaining to make the requested payment")
        if self.budget_msat and self.spent_msat + amount + _RESERVE_MSAT > self.budget_msat:
            raise RefusedError("QUOTA_EXCEEDED", "Your app does not have enough budget remaining")
        own = self.invoice(said.payment_hash)
        preimage = own.preimage if own is not None else _PREIMAGES.get(said.payment_hash, "")
        row = self._row("outgoing", invoice, preimage, said.payment_hash, amount, int(said.expires_at_ms // 1_000))
        self.rows.append(row)
        if fate in (Fate.FAILED, Fate.SLOW_THEN_FAILED):
            self.end(row, paid=False)
        elif fate is not Fate.PENDING:
            self.end(row, paid=True, fee_msat=0 if own is not None else ROUTE_MSAT)
            if own is not None:
                self.receive(said.payment_hash)
                # The payment is the newer of the two, as it is at Alby Hub.
                row.at = self._next()
        return row

    def end(self, row: Row, *, paid: bool, fee_msat: int = ROUTE_MSAT) -> None:
        row.at = self._next()
        if not paid:
            row.state = "failed"
            return
        self._settle(row)
        row.fees_paid = fee_msat
        self.balance_msat -= row.amount + fee_msat
        self.spent_msat += row.amount + fee_msat

    def expire(self, payment_hash: str) -> None:
        row = self.invoice(payment_hash)
        assert row is not None
        row.expires_at = int(self.clock_s()) - 1
        row.state = "expired"

    def listed(self, direction: str | None, *, unpaid: bool) -> list[Row]:
        """The rows, the last changed first, as Alby Hub lists them."""
        rows = [row for row in self.rows if unpaid or row.state == "settled"]
        return sorted((row for row in rows if direction in (None, row.type)), key=lambda row: -row.at)

    def _settle(self, row: Row) -> None:
        row.state, row.settled_at, row.at = "settled", int(self.clock_s()), self._next()

    def _newest(self, direction: str, payment_hash: str) -> Row | None:
        found = [row for row in self.rows if row.type == direction and row.payment_hash == payment_hash]
        return max(found, key=lambda row: row.at, default=None)

    def _row(self, direction: str, invoice: str, preimage: str, payment_hash: str, amount: int, expires_at: int) -> Row:
        return Row(direction, invoice, preimage, payment_hash, amount, int(self.clock_s()), expires_at, self._next())

    def _next(self) -> int:
        self.changes += 1
        return self.changes


# The network settles payments with the preimages of the invoices that `foreign_invoice` made.
_PREIMAGES: dict[str, str] = {}


def foreign_invoice(amount_sats: int, at_s: int, expiry_s: int = _EXPIRY_S) -> PayoutTarget:
    """An invoice of another node."""
    key, memo = secrets.token_hex(32), "a customer's"
    text, preimage, payment_hash, amount_msat, _ = _signed(key, amount_sats * 1_000, memo, expiry_s, at_s)
    _PREIMAGES[payment_hash] = preimage
    return PayoutTarget(text, payment_hash, Msat(amount_msat))


def shown(row: Row) -> dict[str, Any]:
    """A row as Alby Hub shows it."""
    is_settled = row.state == "settled"
    return {
        "type": row.type,
        "state": row.state,
        "invoice": row.invoice,
        "description": row.description or description_of(row.invoice),
        "preimage": row.preimage if is_settled else "",
        "payment_hash": row.payment_hash,
        "amount": row.amount,
        "fees_paid": row.fees_paid,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "settled_at": row.settled_at,
    }


def _signed(key: str, amount_msat: int, memo: str, expiry_s: int | None, at_s: int) -> tuple[str, str, str, int, int]:
    preimage = secrets.token_bytes(32)
    payment_hash = hashlib.sha256(preimage).hexdigest()
    expiry_s = _EXPIRY_S if expiry_s is None else expiry_s
    text = sign_invoice(
        key,
        payment_hash=payment_hash,
        payment_secret=secrets.token_hex(32),
        amount_msat=Msat(amount_msat),
        memo=memo,
        at_s=at_s,
        expiry_s=expiry_s,
    )
    return text, preimage.hex(), payment_hash, amount_msat, at_s + expiry_s
