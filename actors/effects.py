"""Carries out what actors intend: invoices, look-ups, model calls. Each outcome is a command to the actor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from .domain.answers import PricedEvaluation
from .domain.behaviour import Command, Done, Failed, Intent
from .domain.intents import Evaluate, IssueInvoice, LookUpInvoice, ReleaseUnpaid, Work
from .domain.pricing import BtcPrice
from .ports import InvoiceOrder, Lightning, Limits, Model, PermanentError, TransientError

_LOOK_UP_BACKOFF_MAX_S: Final = 30.0
_log = structlog.get_logger(__name__)


class Prices(Protocol):
    """The BTC price as a host knows it: from memory."""

    async def current(self) -> BtcPrice:
        """The price; never raises."""
        ...


class Effects:
    """Runs intents against the ports."""

    def __init__(
        self,
        lightning: Lightning,
        model: Model,
        prices: Prices,
        limits: Limits,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lightning = lightning
        self._model = model
        self._prices = prices
        self._limits = limits
        self._pause = pause

    async def run(self, intent: Intent) -> Command:
        """The outcome, `Done` or `Failed`; raises nothing but cancellation."""
        try:
            return Done(intent, await self._result(intent))
        except TransientError as error:
            _log.warning("effect failed for now", intent=type(intent).__name__, error=str(error))
            return Failed(intent, permanent=False, retry_after_ms=int((error.retry_after_s or 0) * 1_000))
        except PermanentError as error:
            _log.warning("effect failed for good", intent=type(intent).__name__, error=str(error))
            return Failed(intent, permanent=True)
        except Exception:
            # A defect in an adapter must not leave the actor waiting for ever; attempts are bounded, so it ends.
            _log.exception("effect broke", intent=type(intent).__name__)
            return Failed(intent, permanent=False)

    async def _result(self, intent: Intent) -> Any:
        match intent:
            case IssueInvoice():
                order = InvoiceOrder(intent.amount_sats, intent.memo, intent.expiry_s, intent.actor_id)
                return await self._lightning.create_invoice(order)
            case LookUpInvoice(payment_hash=payment_hash):
                return await self._look_up(payment_hash)
            case Evaluate(request=request):
                evaluation = await self._model.evaluate(request)
                return PricedEvaluation(evaluation, await self._prices.current())
            case Work(request=request, model=model, max_tokens=max_tokens):
                return await self._model.complete(request, model=model, max_tokens=max_tokens)
            case ReleaseUnpaid(client=client, actor_id=actor_id):
                return await self._limits.release(client, actor_id)
        raise TypeError(f"no effect for {type(intent).__name__}")

    async def _look_up(self, payment_hash: str) -> Any:
        """Asks until the node answers: only its own word decides whether an invoice lapsed unpaid."""
        delay_s = 1.0
        while True:
            try:
                return await self._lightning.lookup(payment_hash)
            except TransientError as error:
                _log.warning("look-up failed, trying again", error=str(error), delay_s=delay_s)
            await self._pause(delay_s)
            delay_s = min(delay_s * 2, _LOOK_UP_BACKOFF_MAX_S)
