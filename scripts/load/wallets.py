"""Payers of the deposits: the server's stub node, or a wallet at LNbits."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import msgspec

from ..http_client import Answer, Pool
from .api import Invoice, Server
from .options import LoadError
from .retry import Delivery, deliver

# LNbits answers a second order for the same invoice with the state of the first. Only the look-up is reliable.
_LOOKS: Final = 10
_LOOK_EVERY_S: Final = 1.0


class Payer(Protocol):
    """Payer of invoices."""

    @property
    def at_once(self) -> int:
        """Number of payments that it can be asked for at a time."""
        ...

    async def pay(self, invoice: Invoice) -> None:
        """Pay the invoice, once, or leave open whether the payment arrives. Raises `LoadError`."""
        ...


class StubPayer:
    """Payer that uses the server's own stub node."""

    at_once = 32

    def __init__(self, server: Server) -> None:
        self._server = server

    async def pay(self, invoice: Invoice) -> None:
        """Mark the invoice paid. Raises `LoadError`."""
        await self._server.pay_stub(invoice)


class _Payment(msgspec.Struct, frozen=True):
    bolt11: str = ""
    paid: bool = False
    detail: str = ""
    balance: int | float = 0


class LnbitsWallet:
    """A wallet at LNbits, with its admin key. What it pays are real sats, if LNbits has a real node."""

    at_once = 8

    def __init__(self, pool: Pool, admin_key: str) -> None:
        self._pool = pool
        self._headers = {"X-Api-Key": admin_key}

    async def check(self, needed_sats: int) -> None:
        """Raise `LoadError` when the wallet can't be reached, or holds less than this."""
        delivery = await deliver(lambda: self._pool.request("GET", "/api/v1/wallet", headers=self._headers))
        if delivery.answer is None or delivery.answer.status != 200:
            raise LoadError(
                f"The LNbits wallet can't be read: {_refusal(delivery)}. Look at --lnbits-url, and whether "
                "SATMETER_LOAD_ADMIN_KEY is the wallet's admin key."
            )
        has_sats = int(_read(delivery.answer).balance) // 1_000
        if has_sats < needed_sats:
            raise LoadError(
                f"The deposits need {needed_sats} sats, and routing fees, but the LNbits wallet holds {has_sats}: fund "
                "it, or lower --sessions or --deposit."
            )

    async def pay(self, invoice: Invoice) -> None:
        """Pay the invoice. Raises `LoadError` when it was not paid, as far as LNbits knows."""
        order = {"out": True, "bolt11": invoice.payment_request}
        # There is one attempt: an order whose answer was lost is looked up, not repeated.
        delivery = await deliver(
            lambda: self._pool.request("POST", "/api/v1/payments", order, self._headers), attempts_max=1
        )
        if delivery.answer is not None and delivery.answer.status in (200, 201):
            return
        for _ in range(_LOOKS):
            if await self._is_paid(invoice):
                return
            if delivery.answer is not None and delivery.answer.status < 500:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        raise LoadError(f"The LNbits wallet has not paid a deposit: {_refusal(delivery)}")

    async def invoice(self, amount_sats: int) -> str:
        """Make a new invoice of the wallet, for paying back. Raises `LoadError`."""
        order = {"out": False, "amount": amount_sats, "memo": "rest of a load test"}
        delivery = await deliver(lambda: self._pool.request("POST", "/api/v1/payments", order, self._headers))
        if delivery.answer is not None and delivery.answer.status in (200, 201):
            made = _read(delivery.answer)
            if made.bolt11:
                return made.bolt11
        raise LoadError(f"The LNbits wallet makes no invoice: {_refusal(delivery)}")

    async def _is_paid(self, invoice: Invoice) -> bool:
        path = f"/api/v1/payments/{invoice.payment_hash}"
        delivery = await deliver(lambda: self._pool.request("GET", path, headers=self._headers), attempts_max=2)
        return delivery.answer is not None and delivery.answer.status == 200 and _read(delivery.answer).paid


def _read(answer: Answer) -> _Payment:
    try:
        return msgspec.json.decode(answer.body, type=_Payment)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Payment()


def _refusal(delivery: Delivery) -> str:
    if delivery.answer is None:
        return f"no answer ({delivery.why})"
    return f"status {delivery.answer.status} {_read(delivery.answer).detail}".rstrip()
