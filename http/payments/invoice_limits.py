"""Limits of the unpaid invoices of one client, which cost the operator something and the client nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

import structlog

from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.domain.job.behaviour import KEEP_UNPAID_MS
from ...actors.domain.job.payments import KEEP_TEXT_MS
from ...actors.ports import TransientError
from ..edge.shares import WIDE
from ..response import errors
from ..state import AppState

T = TypeVar("T")
# What the store keeps of an unpaid job or session beside the client's words: its invoice, most of all.
_OVERHEAD_BYTES: Final = 2_048
# Small ones still fit when large ones fill the store, so that strangers with long texts stop no sales.
_SMALL_BYTES: Final = 8_192
_SMALL_FACTOR: Final = 8
_ALL: Final = "all"
_FULL_RETRY_S: Final = 3_600
_log = structlog.get_logger(__name__)


class Payer(NamedTuple):
    """A client that is to pay: digests of its address or /64, and of its /48 if it has one."""

    near: str
    wide: str | None = None


class InvoiceLimits:
    """The count of clients' unpaid invoices, by a digest of their address."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    async def count(
        self,
        client: Payer,
        actor_id: str,
        opening: Callable[[], Awaitable[tuple[T, bool]]],
        text_bytes: int = 0,
        expiry_s: int | None = None,
    ) -> T:
        """Open a job or session with an invoice. Raises `RefusedError` for a client with too many unpaid invoices.

        `opening` returns the actor's answer, and whether its invoice is still unpaid. `text_bytes`: what the store
        keeps of the client's words until it pays. `expiry_s`: the invoice's life, if it is not that of all.
        """
        if not self._state.settings.rate_limits:
            return (await opening())[0]
        life_ms = (expiry_s or self._state.settings.invoice_expiry_s) * 1_000
        await self._reserve(client.near, actor_id, life_ms)
        try:
            await self._hold_bytes(client, actor_id, text_bytes, life_ms)
            opened, unpaid = await opening()
        except RefusedError as error:
            # After a conflict, the reservation belongs to the existing job or session of this key, whose invoice is
            # still open. Releasing it would let a client have any number of invoices.
            if error.refusal.code is not Code.IDEMPOTENCY_CONFLICT:
                await self._release(client.near, actor_id)
            raise
        if not unpaid:
            await self._release(client.near, actor_id)
        return opened

    async def _reserve(self, client: str, actor_id: str, life_ms: int) -> None:
        settings = self._state.settings
        until_ms = self._state.now_ms() + life_ms
        wait_s = await self._state.limits.reserve(client, actor_id, settings.unpaid_per_ip, until_ms)
        if wait_s is not None:
            raise errors.rate_limited(
                f"You have {settings.unpaid_per_ip} unpaid invoices: pay one, or try again in {wait_s} s.", wait_s
            )

    async def _hold_bytes(self, client: Payer, actor_id: str, text_bytes: int, life_ms: int) -> None:
        settings, now_ms = self._state.settings, self._state.now_ms()
        small = _OVERHEAD_BYTES + text_bytes <= _SMALL_BYTES
        most = _SMALL_FACTOR * settings.unpaid_max_bytes if small else settings.unpaid_max_bytes
        own = settings.unpaid_bytes_per_ip
        bounds = {client.near: own, **({client.wide: WIDE * own} if client.wide is not None else {}), _ALL: most}
        kept = [(_OVERHEAD_BYTES, now_ms + life_ms + KEEP_UNPAID_MS)]
        if text_bytes:
            # Twice, as an invoice made ahead lives longer, and the look at its job may be late.
            kept.append((text_bytes, now_ms + 2 * (life_ms + KEEP_TEXT_MS)))
        full = await self._state.limits.hold_bytes(actor_id, kept, bounds)
        if full is None:
            return
        if full == _ALL:
            message = "The server keeps too much that was not paid for; nothing was charged. Try again later."
            raise RefusedError(Refusal(Code.OVERLOADED, message, retry_after_s=_FULL_RETRY_S))
        raise errors.rate_limited(
            f"What you have not paid for takes more than {own} bytes here: pay for it, or send less.", _FULL_RETRY_S
        )

    async def _release(self, client: str, actor_id: str) -> None:
        try:
            await self._state.limits.release(client, actor_id)
        except TransientError as error:
            # The reservation expires with the invoice, so the client's answer must not fail.
            _log.warning("unpaid_invoice_not_released", error=str(error))
