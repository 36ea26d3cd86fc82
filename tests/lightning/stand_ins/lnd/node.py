"""Books of a node that stands in for LND: its invoices, its payments, and the network that it pays and is paid by."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from base64 import b64encode
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import MSAT_PER_SAT, Msat
from satmeter.actors.domain.payments.bolt11 import ReadInvoice, read_invoice
from tests.helpers.invoices import over_hash

# Codes of gRPC, which LND's errors carry.
UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS = 2, 3, 5, 6
MEMO_MAX_BYTES = 639
ROUTE_FEE_MSAT = 1_000


class LndError(Exception):
    """An error of LND's, with gRPC's code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Ending(Enum):
    """Endings of a payment in the network. PENDING: not before `end`. NO_FUNDS: it is never tried."""

    PAID = auto()
    FAILED = auto()
    PENDING = auto()
    NO_FUNDS = auto()


@dataclass
class OwnInvoice:
    """An invoice of this node."""

    preimage: bytes
    payment_request: str
    memo: str
    value_msat: int
    created_at_s: int
    expiry_s: int
    add_index: int
    is_private: bool
    state: str = "OPEN"
    amt_paid_msat: int = 0
    settle_index: int = 0
    settled_at_s: int = 0

    @property
    def payment_hash(self) -> str:
        """The hash in hex."""
        return hashlib.sha256(self.preimage).hexdigest()


@dataclass
class OwnPayment:
    """A payment of this node's."""

    target: ReadInvoice
    payment_index: int
    created_at_ns: int
    status: str = "IN_FLIGHT"
    fee_msat: int = 0
    failure_reason: str = "FAILURE_REASON_NONE"
    was_tried: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        """True if its end is known."""
        return self.status != "IN_FLIGHT"


class LndNode:
    """The books. They outlive the server before them."""

    def __init__(self, local_msat: int = 0, remote_msat: int = 10_000_000_000) -> None:
        self.key = secrets.token_hex(32)
        self.local_msat = local_msat
        self.remote_msat = remote_msat
        self.is_synced = True
        self.is_locked = False
        self.is_muted = False
        self.route_fee_msat = ROUTE_FEE_MSAT
        self.invoices: dict[str, OwnInvoice] = {}
        self.payments: dict[str, OwnPayment] = {}
        self.listeners: set[asyncio.Queue[OwnInvoice]] = set()
        self.peers: list[LndNode] = []
        """Nodes whose invoices it pays for real."""
        self.orders: list[dict[str, Any]] = []
        """All orders to pay, as they were read."""
        self._settled = 0
        self._paid = 0
        self._foreign: dict[str, bytes] = {}
        self._foreign_key = secrets.token_hex(32)

    # What comes in

    def add_invoice(self, order: dict[str, Any]) -> OwnInvoice:
        """Make an invoice. Raises `LndError`."""
        memo, value_msat = order.get("memo", ""), _value_msat(order)
        if len(memo.encode()) > MEMO_MAX_BYTES:
            size = len(memo.encode())
            raise LndError(UNKNOWN, f"memo too large: {size} bytes (maxsize={MEMO_MAX_BYTES})")
        preimage = order.get("r_preimage") or secrets.token_bytes(32)
        payment_hash = hashlib.sha256(preimage).hexdigest()
        if payment_hash in self.invoices:
            raise LndError(UNKNOWN, "invoice with payment hash already exists")
        now_s, expiry_s = int(time.time()), int(order.get("expiry") or 86_400)
        text = sign_invoice(
            self.key,
            payment_hash=payment_hash,
            payment_secret=secrets.token_hex(32),
            amount_msat=Msat(value_msat),
            memo=memo,
            at_s=now_s,
            expiry_s=expiry_s,
        )
        if order.get("description_hash"):
            # LND puts the hash into the invoice, and keeps the memo beside it.
            text = over_hash(order["description_hash"], memo, text, self.key)
        index = max((made.add_index for made in self.invoices.values()), default=0) + 1
        is_private = bool(order.get("private", False))
        made = OwnInvoice(preimage, text, memo, value_msat, now_s, expiry_s, index, is_private)
        self.invoices[payment_hash] = made
        self._tell(made)
        return made

    def invoice(self, payment_hash: str) -> OwnInvoice:
        """An invoice as it is now. Raises `LndError` for an unknown one."""
        if not self.invoices:
            raise LndError(UNKNOWN, "there are no existing invoices")
        found = self.invoices.get(payment_hash)
        if found is None:
            raise LndError(NOT_FOUND, "unable to locate invoice")
        if found.state == "OPEN" and time.time() >= found.created_at_s + found.expiry_s:
            found.state = "CANCELED"
        return found

    def receive(self, payment_hash: str, amount_msat: int | None = None) -> bool:
        """Have the network pay an invoice; False where LND does not take it: too little, or too late."""
        invoice = self.invoice(payment_hash)
        amount_msat = invoice.value_msat if amount_msat is None else amount_msat
        if invoice.state != "OPEN" or amount_msat < invoice.value_msat:
            return False
        self._settled += 1
        invoice.state, invoice.amt_paid_msat, invoice.settle_index = "SETTLED", amount_msat, self._settled
        invoice.settled_at_s = int(time.time())
        self.local_msat += amount_msat
        self.remote_msat -= amount_msat
        if not self.is_muted:
            self._tell(invoice)
        return True

    def _tell(self, invoice: OwnInvoice) -> None:
        for listener in self.listeners:
            listener.put_nowait(invoice)

    # What goes out

    def foreign_invoice(self, amount_msat: int, *, expiry_s: int = 3_600) -> ReadInvoice:
        """An invoice of another node."""
        preimage = secrets.token_bytes(32)
        payment_hash = hashlib.sha256(preimage).hexdigest()
        self._foreign[payment_hash] = preimage
        text = sign_invoice(
            self._foreign_key,
            payment_hash=payment_hash,
            payment_secret=secrets.token_hex(32),
            amount_msat=Msat(amount_msat),
            memo="another node",
            at_s=int(time.time()),
            expiry_s=expiry_s,
        )
        return read_invoice(text)

    def begin_payment(self, order: dict[str, Any], ending: Ending) -> OwnPayment:
        """Take an order, and end the payment at once unless it is to stay pending. Raises `LndError`."""
        self.orders.append(order)
        target = self._checked(order)
        known = self.payments.get(target.payment_hash)
        if known is not None and known.status != "FAILED":
            words = "invoice is already paid" if known.status == "SUCCEEDED" else "payment is in transition"
            raise LndError(ALREADY_EXISTS, words)
        self._paid += 1
        payment = self.payments[target.payment_hash] = OwnPayment(target, self._paid, time.time_ns())
        limit_msat = int(order.get("fee_limit_msat") or int(order.get("fee_limit_sat") or 0) * MSAT_PER_SAT)
        if ending is Ending.NO_FUNDS or target.amount_msat.value > self.local_msat:
            payment.was_tried = False
            self._fail(payment, "FAILURE_REASON_INSUFFICIENT_BALANCE")
        elif self.route_fee_msat > limit_msat:
            payment.was_tried = False
            self._fail(payment, "FAILURE_REASON_NO_ROUTE")
        elif ending is not Ending.PENDING:
            self.end(target.payment_hash, is_paid=ending is Ending.PAID, fee_msat=self.route_fee_msat)
        return payment

    def end(self, payment_hash: str, *, is_paid: bool, fee_msat: int = 0) -> None:
        """End a payment that is under way."""
        payment = self.payments[payment_hash]
        if not is_paid:
            self._fail(payment, "FAILURE_REASON_TIMEOUT")
            return
        payment.status, payment.fee_msat = "SUCCEEDED", fee_msat
        self.local_msat -= payment.target.amount_msat.value + fee_msat
        self.remote_msat += payment.target.amount_msat.value + fee_msat
        for node in (self, *self.peers):
            if payment_hash in node.invoices:
                node.receive(payment_hash, payment.target.amount_msat.value)
        payment.changed.set()

    def preimage_of(self, payment_hash: str) -> bytes:
        """The preimage that a payment has brought; zeros for an invoice that nobody here has made."""
        own = [node.invoices[payment_hash] for node in (self, *self.peers) if payment_hash in node.invoices]
        return own[0].preimage if own else self._foreign.get(payment_hash, bytes(32))

    def payment(self, payment_hash: str) -> OwnPayment:
        """A payment. Raises `LndError` for an unknown one."""
        found = self.payments.get(payment_hash)
        if found is None:
            raise LndError(NOT_FOUND, "payment isn't initiated")
        return found

    def _checked(self, order: dict[str, Any]) -> ReadInvoice:
        if not int(order.get("timeout_seconds") or 0):
            raise LndError(UNKNOWN, "timeout_seconds must be specified")
        try:
            target = read_invoice(order.get("payment_request", ""))
        except ValueError as error:
            raise LndError(UNKNOWN, f"invalid invoice: {error}") from None
        if time.time() * 1_000 >= target.expires_at_ms:
            raise LndError(UNKNOWN, "invoice expired. Valid until 2026-01-01 00:00:00 +0000 UTC")
        if target.currency != "bcrt":
            raise LndError(UNKNOWN, "invoice not for current active network 'regtest'")
        if target.payment_hash in self.invoices and not order.get("allow_self_payment"):
            raise LndError(UNKNOWN, "self-payments not allowed")
        return target

    def _fail(self, payment: OwnPayment, reason: str) -> None:
        payment.status, payment.failure_reason = "FAILED", reason
        payment.changed.set()


def _value_msat(order: dict[str, Any]) -> int:
    sats, msat = int(order.get("value") or 0), int(order.get("value_msat") or 0)
    if sats and msat:
        raise LndError(UNKNOWN, "sat and msat arguments are mutually exclusive")
    return msat or sats * MSAT_PER_SAT


def shown_invoice(invoice: OwnInvoice) -> dict[str, Any]:
    """An invoice as LND shows it: 64-bit numbers as texts, bytes in base64, defaults spelled out."""
    paid_sats = invoice.amt_paid_msat // MSAT_PER_SAT
    return {
        "memo": invoice.memo,
        "r_preimage": b64encode(invoice.preimage).decode(),
        "r_hash": b64encode(bytes.fromhex(invoice.payment_hash)).decode(),
        "value": str(invoice.value_msat // MSAT_PER_SAT),
        "value_msat": str(invoice.value_msat),
        "settled": invoice.state == "SETTLED",
        "creation_date": str(invoice.created_at_s),
        "settle_date": str(invoice.settled_at_s),
        "payment_request": invoice.payment_request,
        "description_hash": "",
        "expiry": str(invoice.expiry_s),
        "fallback_addr": "",
        "cltv_expiry": "80",
        "route_hints": [],
        "private": invoice.is_private,
        "add_index": str(invoice.add_index),
        "settle_index": str(invoice.settle_index),
        "amt_paid": str(invoice.amt_paid_msat),
        "amt_paid_sat": str(paid_sats),
        "amt_paid_msat": str(invoice.amt_paid_msat),
        "state": invoice.state,
        "htlcs": [],
        "features": {},
        "is_keysend": False,
        "payment_addr": "",
        "is_amp": False,
        "amp_invoice_state": {},
        "is_blinded": False,
    }


def shown_payment(node: LndNode, payment: OwnPayment) -> dict[str, Any]:
    """A payment as LND shows it."""
    is_paid, target = payment.status == "SUCCEEDED", payment.target
    part = {"attempt_id": "1", "status": payment.status, "failure": None, "preimage": ""}
    return {
        "payment_hash": target.payment_hash,
        "value": str(target.amount_msat.whole_sats),
        "creation_date": str(payment.created_at_ns // 10**9),
        "fee": str(payment.fee_msat // MSAT_PER_SAT),
        "payment_preimage": node.preimage_of(target.payment_hash).hex() if is_paid else "0" * 64,
        "value_sat": str(target.amount_msat.whole_sats),
        "value_msat": str(target.amount_msat.value),
        "payment_request": target.payment_request,
        "status": payment.status,
        "fee_sat": str(payment.fee_msat // MSAT_PER_SAT),
        "fee_msat": str(payment.fee_msat),
        "creation_time_ns": str(payment.created_at_ns),
        "htlcs": [part] if payment.was_tried else [],
        "payment_index": str(payment.payment_index),
        "failure_reason": payment.failure_reason,
        "first_hop_custom_records": {},
    }
