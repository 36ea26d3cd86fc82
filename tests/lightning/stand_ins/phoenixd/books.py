"""Books of a phoenixd: its channel, its fee credit, the invoices that it made and the payments that it tried.

Source: lightning-kmp's `PaymentsDb.kt` and `IncomingPaymentHandler.kt`, and ACINQ's page on automatic liquidity.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from tests.helpers.invoices import over_hash

Json = dict[str, Any]

_SAT: Final = 1_000
_FEE_BASE_MSAT: Final = 4_000
_FEE_PER_MILLION: Final = 4_000
_SERVICE_FEE_PER_CENT: Final = 1
_CHANNEL_CREATION_SATS: Final = 1_000


def fee_msat(amount_msat: int) -> int:
    """Return what the peer takes for sending this amount on: 4 sats and 0.4 %."""
    return _FEE_BASE_MSAT + amount_msat * _FEE_PER_MILLION // 1_000_000


@dataclass
class Incoming:
    """An invoice, and what came in for it. `kept_msat` is what of it paid for a channel."""

    payment_hash: str
    preimage: str
    payment_request: str
    description: str | None
    amount_sat: int | None
    external_id: str | None
    created_at: int
    expires_at: int
    received_msat: int = 0
    kept_msat: int = 0
    completed_at: int | None = None

    def shown(self, now_ms: int) -> Json:
        """Return it as the API shows it. Values that are missing are left out."""
        row: Json = {
            "type": "incoming_payment",
            "subType": "lightning",
            "paymentHash": self.payment_hash,
            "preimage": self.preimage,
            "externalId": self.external_id,
            "description": self.description,
            "invoice": self.payment_request,
            "isPaid": self.completed_at is not None,
            "isExpired": now_ms > self.expires_at,
            "requestedSat": self.amount_sat,
            "receivedSat": self.received_msat // _SAT,
            "fees": self.kept_msat,
            "expiresAt": self.expires_at,
            "completedAt": self.completed_at,
            "createdAt": self.created_at,
        }
        return {name: value for name, value in row.items() if value is not None}


@dataclass
class Outgoing:
    """A payment that was tried: under way until it has an end. `preimage`: it was paid."""

    payment_hash: str
    payment_request: str
    amount_msat: int
    created_at: int
    payment_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    fee_msat: int = 0
    preimage: str | None = None
    completed_at: int | None = None

    def shown(self) -> Json:
        """Return it as the API shows it. Values that are missing are left out."""
        row: Json = {
            "type": "outgoing_payment",
            "subType": "lightning",
            "paymentId": self.payment_id,
            "paymentHash": self.payment_hash,
            "preimage": self.preimage,
            "isPaid": self.preimage is not None,
            "sent": (self.amount_msat + self._spent_fee_msat) // _SAT,
            "fees": self._spent_fee_msat,
            "invoice": self.payment_request,
            "completedAt": self.completed_at,
            "createdAt": self.created_at,
        }
        return {name: value for name, value in row.items() if value is not None}

    @property
    def _spent_fee_msat(self) -> int:
        return self.fee_msat if self.preimage is not None else 0

    @property
    def rank(self) -> int:
        """Order in which one of several attempts is shown: a paid one, one under way, a failed one."""
        return 3 if self.preimage is not None else 2 if self.completed_at is None else 1


class Books:
    """The node's books, and the preimages that the network around it knows."""

    def __init__(
        self, now_ms: Callable[[], int], *, balance_sats: int = 0, inbound_sats: int = 0, mining_fee_sats: int = 1_219
    ) -> None:
        self.now_ms = now_ms
        self.incoming: dict[str, Incoming] = {}
        self.outgoing: list[Outgoing] = []
        self.balance_msat = balance_sats * _SAT
        self.capacity_msat = (balance_sats + inbound_sats) * _SAT
        self.channel_state = "Normal"
        self.fee_credit_msat = 0
        self.auto_liquidity_sats = 2_000_000
        self.mining_fee_sats = mining_fee_sats
        self.purchases: list[Json] = []
        self._node_key, self._network_key = secrets.token_hex(32), secrets.token_hex(32)
        self._network: dict[str, str] = {}

    @property
    def channels(self) -> list[Json]:
        """The channel to the peer, as `/getinfo` lists it; none before the first payment that paid for one."""
        if not self.capacity_msat:
            return []
        channel = {
            "state": self.channel_state,
            "channelId": "85" * 32,
            "balanceSat": self.balance_msat // _SAT,
            "inboundLiquiditySat": (self.capacity_msat - self.balance_msat) // _SAT,
            "capacitySat": self.capacity_msat // _SAT,
            "fundingTxId": "3e" * 32,
        }
        return [channel]

    def invoice(
        self,
        amount_sat: int | None,
        description: str,
        expiry_s: int = 3_600,
        external_id: str | None = None,
        description_hash: bytes | None = None,
    ) -> Incoming:
        """Make an invoice of ours; a hash takes the place of its description."""
        preimage, text = self._signed(self._node_key, (amount_sat or 0) * _SAT, description, expiry_s)
        if description_hash is not None:
            text = over_hash(description_hash, description, text, self._node_key)
        now_ms, payment_hash = self.now_ms(), sha256(preimage).hexdigest()
        expires_at = now_ms + expiry_s * 1_000
        made = Incoming(
            payment_hash, preimage.hex(), text, description, amount_sat, external_id or None, now_ms, expires_at
        )
        self.incoming[payment_hash] = made
        return made

    def foreign_invoice(self, amount_msat: int, memo: str = "another node's") -> str:
        """Return an invoice of another node, which takes payments."""
        preimage, text = self._signed(self._network_key, amount_msat, memo, 3_600)
        self._network[sha256(preimage).hexdigest()] = preimage.hex()
        return text

    def preimage_of(self, payment_hash: str) -> str | None:
        """Return the preimage that the payee of this hash would show; None where the network has no such payee."""
        own = self.incoming.get(payment_hash)
        return own.preimage if own is not None else self._network.get(payment_hash)

    def receive(self, payment_hash: str, amount_msat: int | None = None) -> Incoming | None:
        """Have the network pay an invoice of ours. None where the node takes no such payment.

        It takes one payment, from the invoice's amount up to double of it, and none after the invoice has lapsed.
        """
        invoice = self.incoming.get(payment_hash)
        if invoice is None or invoice.completed_at is not None or self.now_ms() > invoice.expires_at:
            return None
        asked_msat = (invoice.amount_sat or 0) * _SAT
        paid_msat = asked_msat if amount_msat is None else amount_msat
        if paid_msat < 1 or paid_msat < asked_msat or (asked_msat and paid_msat > 2 * asked_msat):
            return None
        kept_msat, in_credit = self._make_room(paid_msat)
        invoice.kept_msat, invoice.received_msat = kept_msat, paid_msat - kept_msat
        invoice.completed_at = self.now_ms()
        if not in_credit:
            self.balance_msat += invoice.received_msat
        return invoice

    def _make_room(self, paid_msat: int) -> tuple[int, bool]:
        """Return what of a payment goes for a channel, and whether it all goes to the fee credit."""
        if self.capacity_msat - self.balance_msat >= paid_msat:
            return 0, False
        mining, service = self.liquidity_fees(self.auto_liquidity_sats + paid_msat // _SAT)
        cost_msat = (mining + service) * _SAT
        if self.fee_credit_msat + paid_msat <= cost_msat:
            self.fee_credit_msat += paid_msat
            return 0, True
        from_credit_msat = min(self.fee_credit_msat, cost_msat)
        self.fee_credit_msat -= from_credit_msat
        kept_msat = cost_msat - from_credit_msat
        self.capacity_msat = self.balance_msat + paid_msat + self.auto_liquidity_sats * _SAT
        self.purchases.append(self._purchase(mining + service))
        return kept_msat, False

    def liquidity_fees(self, amount_sats: int) -> tuple[int, int]:
        """Return the mining fee and the service fee, in sats, of this much more room."""
        creation = 0 if self.capacity_msat else _CHANNEL_CREATION_SATS
        return self.mining_fee_sats, amount_sats * _SERVICE_FEE_PER_CENT // 100 + creation

    def _purchase(self, cost_sats: int) -> Json:
        return {
            "type": "outgoing_payment",
            "subType": "auto_liquidity",
            "paymentId": str(uuid.uuid4()),
            "txId": secrets.token_hex(32),
            "isPaid": True,
            "sent": cost_sats,
            "fees": cost_sats * _SAT,
            "completedAt": self.now_ms(),
            "createdAt": self.now_ms(),
        }

    def begin(self, payment_request: str, payment_hash: str, amount_msat: int) -> Outgoing:
        """Put a payment into the books, under way, with its money set aside."""
        payment = Outgoing(payment_hash, payment_request, amount_msat, self.now_ms())
        payment.fee_msat = fee_msat(amount_msat)
        self.balance_msat -= amount_msat + payment.fee_msat
        self.outgoing.append(payment)
        return payment

    def pay(self, payment: Outgoing, preimage: str) -> None:
        """End a payment as paid. An invoice of ours is paid by it."""
        payment.preimage, payment.completed_at = preimage, self.now_ms()
        if payment.payment_hash in self.incoming:
            self.receive(payment.payment_hash, payment.amount_msat)

    def fail(self, payment: Outgoing) -> None:
        """End a payment as failed: nothing of it has left the wallet."""
        self.balance_msat += payment.amount_msat + payment.fee_msat
        payment.fee_msat, payment.completed_at = 0, self.now_ms()

    def attempts(self, payment_hash: str) -> list[Outgoing]:
        """Return the payments to this hash, the one to show first."""
        found = [payment for payment in self.outgoing if payment.payment_hash == payment_hash]
        return sorted(found, key=lambda payment: payment.rank, reverse=True)

    def _signed(self, key: str, amount_msat: int, memo: str, expiry_s: int) -> tuple[bytes, str]:
        preimage = secrets.token_bytes(32)
        text = sign_invoice(
            key,
            payment_hash=sha256(preimage).hexdigest(),
            payment_secret=secrets.token_hex(32),
            amount_msat=Msat(amount_msat),
            memo=memo,
            at_s=self.now_ms() // 1_000,
            expiry_s=expiry_s,
        )
        return preimage, text
