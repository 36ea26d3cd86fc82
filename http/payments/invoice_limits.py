"""Limits of the unpaid invoices of one client, which cost the operator something and the client nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from ...actors.domain.errors import Code, RefusedError
from ...actors.ports import TransientError
from ..response import errors
from ..state import AppState

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class InvoiceLimits:
    """The count of clients' unpaid invoices, by a digest of their address."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    async def count(self, client: str, actor_id: str, opening: Callable[[], Awaitable[tuple[T, bool]]]) -> T:
        """Open a job or session with an invoice. Raises `RefusedError` for a client with too many unpaid invoices.

        `opening` returns the actor's answer, and whether its invoice is still unpaid.
        """
        if not self._state.settings.rate_limits:
            return (await opening())[0]
        await self._reserve(client, actor_id)
        try:
            opened, unpaid = await opening()
        except RefusedError as error:
            # After a conflict, the reservation belongs to the existing job or session of this key, whose invoice is
            # still open. Releasing it would let a client have any number of invoices.
            if error.refusal.code is not Code.IDEMPOTENCY_CONFLICT:
                await self._release(client, actor_id)
            raise
        if not unpaid:
            await self._release(client, actor_id)
        return opened

    async def _reserve(self, client: str, actor_id: str) -> None:
        settings = self._state.settings
        until_ms = self._state.now_ms() + settings.invoice_expiry_s * 1_000
        wait_s = await self._state.limits.reserve(client, actor_id, settings.unpaid_per_ip, until_ms)
        if wait_s is not None:
            raise errors.rate_limited(
                f"You have {settings.unpaid_per_ip} unpaid invoices: pay one, or try again in {wait_s} s.", wait_s
            )

    async def _release(self, client: str, actor_id: str) -> None:
        try:
            await self._state.limits.release(client, actor_id)
        except TransientError as error:
            # The reservation expires with the invoice, so the client's answer must not fail.
            _log.warning("unpaid_invoice_not_released", error=str(error))
