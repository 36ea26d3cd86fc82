"""Executor of actors' intents: invoices, look-ups, payouts, model calls. Each outcome is a command to the actor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any, Final, Protocol

import structlog

from ...config.log_context import tell_step, tells_steps
from ..clock import system_awake_ms, system_now_ms
from ..domain.backoff import Backoff
from ..domain.behaviour import Command, Done, Failed, Intent
from ..domain.llm.answers import PricedEvaluation
from ..domain.llm.intents import AnswerRequest, CountPrompt, Evaluate, RelayRequest, Work
from ..domain.payments.intents import (
    IssueInvoice,
    LookUpInvoice,
    LookUpPayout,
    ReleaseUnpaid,
    ResolveRefund,
    SendPayout,
)
from ..domain.payments.invoices import Invoice
from ..domain.pricing import BtcPrice
from ..domain.webhooks import Notify
from ..port_errors import did_nothing, told
from ..ports import (
    Destinations,
    HeldBackError,
    InvoiceOrder,
    Lightning,
    Limits,
    LongPayout,
    Model,
    ModelError,
    PermanentError,
    RefusedRequestError,
    TransientError,
    Urgency,
    Webhooks,
)
from .answer import AnswerEffect
from .invoice_pool import InvoicePool
from .payout_calls import PayoutCalls
from .progress import ProgressChannel
from .refund_calls import RefundCalls
from .relay import RelayEffect

_LOOK_UP_BACKOFF_FIRST_S: Final = 1.0
_LOOK_UP_BACKOFF_MAX_S: Final = 30.0
_log = structlog.get_logger(__name__)


class Prices(Protocol):
    """BTC price as a host knows it: from memory."""

    async def current(self) -> BtcPrice:
        """Return the price; never raise."""
        ...


def _sent_in_vain(intent: Intent, error: TransientError) -> bool:
    """Return whether an evaluation was sent and not answered: the provider may bill it, so that it is not repeated."""
    return isinstance(intent, Evaluate) and isinstance(error, ModelError) and not did_nothing(error)


def _ms_since(began_s: float) -> float:
    return round((time.perf_counter() - began_s) * 1_000, 1)


async def _nothing() -> None:
    """Return nothing, the result of work that was left."""


class _BoundLater:
    """Logger with fields, which is made when there is something to log: few intents have anything."""

    __slots__ = ("_fields",)

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        return getattr(_log.bind(**self._fields), name)


class Effects:
    """Runner of intents against the ports. `admit_sale` raises `ModelError` while work can't be sold."""

    def __init__(
        self,
        lightning: Lightning,
        model: Model,
        prices: Prices,
        limits: Limits,
        invoices: InvoicePool,
        webhooks: Webhooks,
        destinations: Destinations,
        *,
        payout_refused: Callable[[str], Awaitable[None]] | None = None,
        payout_lasts: Callable[[LongPayout], Awaitable[None]] | None = None,
        admit_sale: Callable[[], Awaitable[None]] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_ms: Callable[[], int] = system_now_ms,
        uptime_ms: Callable[[], int] = system_awake_ms,
    ) -> None:
        self._lightning = lightning
        self._model = model
        self._prices = prices
        self._limits = limits
        self._invoices = invoices
        self._webhooks = webhooks
        self._destinations = destinations
        self._admit_sale = admit_sale
        self._pause = pause
        self._answering = AnswerEffect(model, pause)
        self._relaying = RelayEffect(model)
        self._payouts = PayoutCalls(lightning, pause, now_ms, payout_refused, payout_lasts, uptime_ms)
        self._refunds = RefundCalls(destinations)

    def prepare(self) -> None:
        """Get ready the parts that take long the first time."""
        self._model.prepare()

    async def close(self) -> None:
        """End the work that goes on in the background."""
        await self._invoices.close()
        await self._webhooks.close()
        await self._destinations.close()

    async def run(self, intent: Intent, progress: ProgressChannel, *, actor_id: str) -> Command:
        """Return the outcome, `Done` or `Failed`; raises nothing but cancellation. Earlier replies go to `progress`.

        actor_id: the job or session that the intent belongs to, for the log. It is passed on, not bound to the task:
        tasks that serve all actors would keep the id of the one that happened to start them.
        """
        log = _BoundLater(actor_id=actor_id, intent=type(intent).__name__, key=intent.key)
        began_s = time.perf_counter()
        try:
            result = await self._result(intent, progress, actor_id, log)
            if tells_steps():
                tell_step("effect_done", actor_id=actor_id, intent=type(intent).__name__, ms=_ms_since(began_s))
            return Done(intent, result)
        except TransientError as error:
            # While the model is away, calls are held back all the time. One line at its beginning says enough.
            say = log.debug if isinstance(error, HeldBackError) else log.warning
            say("effect_failed", permanent=False, **told(error))
            fault = error.fault if isinstance(error, ModelError) else None
            retry_after_ms = ceil((error.retry_after_s or 0) * 1_000)
            return Failed(intent, permanent=_sent_in_vain(intent, error), retry_after_ms=retry_after_ms, fault=fault)
        except PermanentError as error:
            log.warning("effect_failed", permanent=True, **told(error))
            return Failed(intent, permanent=True, of_request=isinstance(error, RefusedRequestError))
        except Exception:
            # A defect in an adapter must not leave the actor waiting for ever; attempts are bounded, so it ends.
            log.exception("effect_broke")
            return Failed(intent, permanent=False)

    def _result(self, intent: Intent, progress: ProgressChannel, actor_id: str, log: Any) -> Awaitable[Any]:
        """Return what brings the result. A coroutine that only awaited it would take memory as long as a model does."""
        match intent:
            case AnswerRequest():
                return self._answering.answer(intent, progress, log)
            case RelayRequest():
                return self._relaying.relay(intent, progress, log)
            case CountPrompt(body=body, headers=headers, model=model, beta=beta):
                return self._model.count_tokens(body, headers, model=model, beta=beta)
            case IssueInvoice():
                return self._issue(intent)
            case LookUpInvoice(payment_hash=payment_hash):
                return self._look_up(payment_hash, log)
            case Evaluate(request=request):
                return self._evaluate(request)
            case Work(request=request, model=model, max_tokens=max_tokens):
                return progress.while_heard(
                    lambda: self._model.complete(request, model=model, max_tokens=max_tokens), _nothing
                )
            case Notify():
                return self._webhooks.send(intent)
            case SendPayout():
                return self._payouts.send(intent)
            case LookUpPayout():
                return self._payouts.look_up(intent)
            case ResolveRefund():
                return self._refunds.resolve(intent, actor_id)
            case ReleaseUnpaid(client=client, actor_id=unpaid_id):
                return self._limits.release(client, unpaid_id)
        raise TypeError(f"no effect for {type(intent).__name__}")

    async def _evaluate(self, request: str) -> PricedEvaluation:
        evaluation = await self._model.evaluate(request)
        return PricedEvaluation(evaluation, await self._prices.current())

    async def _issue(self, intent: IssueInvoice) -> Invoice:
        if intent.for_work and self._admit_sale is not None:
            await self._admit_sale()
        # An invoice that no client's command waits for was ordered by an actor that has been paid before.
        urgency = Urgency.PAID if intent.context is None else Urgency.NEW
        order = InvoiceOrder(intent.amount_sats, intent.memo, intent.expiry_s, intent.actor_id, urgency)
        return await (self._invoices if intent.ahead else self._lightning).create_invoice(order)

    async def _look_up(self, payment_hash: str, log: Any) -> Any:
        """Ask until the node answers: only its own word decides whether an invoice lapsed unpaid."""
        backoff = Backoff(_LOOK_UP_BACKOFF_FIRST_S, _LOOK_UP_BACKOFF_MAX_S)
        while True:
            delay_s = backoff.next()
            try:
                return await self._lightning.lookup(payment_hash)
            except TransientError as error:
                log.warning("look_up_failed", payment_hash=payment_hash, error=str(error), delay_s=delay_s)
            await self._pause(delay_s)
