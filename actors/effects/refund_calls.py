"""Questions to the destinations of refunds: each has an outcome that says whether and when to ask again."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Final

import structlog

from ..domain.payments.destinations import DestinationFault, UnfitDestinationError, read_destination
from ..domain.payments.intents import ResolveRefund, Unresolved
from ..domain.payments.payouts import PayoutTarget
from ..domain.payments.standing_refund import RefundError
from ..ports import DestinationError, Destinations, TransientError

# Above the adapter's own time-out: a destination must not hold a try for ever, whichever adapter asks it.
_RESOLVE_S: Final = 30.0
# Many servers say so while their own node is away. The others need a person, or never pass.
_MAY_PASS: Final = frozenset({DestinationFault.REFUSED})
_log = structlog.get_logger(__name__)


class RefundCalls:
    """Runner of `ResolveRefund`."""

    def __init__(self, destinations: Destinations, resolve_s: float = _RESOLVE_S) -> None:
        self._destinations = destinations
        self._resolve_s = resolve_s

    async def resolve(self, intent: ResolveRefund, actor_id: str) -> PayoutTarget | Unresolved:
        """Return the destination's invoice, or why there is none. Raises no `PortError`."""
        try:
            async with asyncio.timeout(self._resolve_s):
                return await self._destinations.resolve(read_destination(intent.destination), intent.amount_msat)
        except DestinationError as error:
            unresolved = Unresolved(error.fault.value, permanent=error.fault not in _MAY_PASS)
            _tell(actor_id, unresolved, error.told)
        except UnfitDestinationError as error:
            # A later version may have other rules than the one that took the destination.
            unresolved = Unresolved(error.fault.value, permanent=True)
            _tell(actor_id, unresolved, error.told)
        except (TransientError, TimeoutError) as error:
            retry_after_s = error.retry_after_s if isinstance(error, TransientError) else None
            unresolved = Unresolved(RefundError.UNREACHABLE.value, retry_after_ms=ceil((retry_after_s or 0) * 1_000))
            _tell(actor_id, unresolved, str(error) or "it took too long")
        return unresolved


def _tell(actor_id: str, unresolved: Unresolved, error: str) -> None:
    _log.warning("refund_destination_failed", actor_id=actor_id, reason=unresolved.error, error=error)
