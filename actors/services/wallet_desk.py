"""Wallet desk: the treasury asks the node for the processes that don't hold the keys of the wallet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ...config.log_context import log_as, present_request_id
from ..clock import system_now_ms, system_uptime_ms
from ..domain.codec import MessageCodec
from ..domain.money import Msat
from ..domain.payments.invoices import Invoice, Settlement
from ..domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ..domain.payments.routing_fees import RoutingFees
from ..host_link import LinkError, NoHostError
from ..ports import InvoiceOrder, Lightning, PermanentError, PortError, TransientError, Urgency
from .treasury_clock import TreasuryClock, TreasuryTime

# An order that was not sent by then never is: its host looks the payment up instead, and believes the answer minutes
# later. Without this end, a treasury that stood still could pay what another host has paid since.
_ORDER_MS: Final = 20_000
# Longer than the node's own time-out, and the wait for it.
_ANSWERS_WITHIN_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.5
_FORMER_FEES: Final = RoutingFees(per_million=10_000, least_msat=Msat.from_sats(2))
"""Rule of the versions whose orders have no limit."""
# A client waits for the invoice. A treasury that starts again mostly takes less than this.
_INVOICE_WAITS_MS: Final = 8_000
# Thousands of invoices lapse in the same minute. Payouts must not wait behind questions about all of them.
_LOOK_UPS_AT_ONCE: Final = 32
_NO_TREASURY: Final = "there is no treasury just now"


class PayOut(msgspec.Struct, frozen=True, tag="pay_out"):
    """Order a payment, unless `good_for_ms` have passed since the treasury's time `began`. The answer is `Reported`.

    The route may cost `fee_limit_msat`, or without it the reserve of former versions.
    """

    target: PayoutTarget
    actor_id: str
    # Hosts of former versions send this time by their own clock, and none of what follows.
    send_before_ms: int = 0
    fee_limit_msat: Msat | None = None
    began: TreasuryTime | None = None
    good_for_ms: int = 0
    request_id: str = ""


class AskTime(msgspec.Struct, frozen=True, tag="time"):
    """Ask for the treasury's time. The answer is `Told`."""


class LookUp(msgspec.Struct, frozen=True, tag="payout"):
    """Ask for the state of a payment. The answer is a `PayoutReport`."""

    target: PayoutTarget
    actor_id: str
    request_id: str = ""


class AskReceived(msgspec.Struct, frozen=True, tag="received"):
    """Ask whether the wallet knows an incoming payment. The answer is `Known`."""

    payment_hash: str


class AskOwn(msgspec.Struct, frozen=True, tag="is_own"):
    """Ask whether the node made an invoice. The answer is `Known`."""

    target: PayoutTarget


class AskCheck(msgspec.Struct, frozen=True, tag="check"):
    """Ask whether the node answers. The answer is `Known`."""


class MakeInvoice(msgspec.Struct, frozen=True, tag="create_invoice"):
    """Order an invoice. The answer is `Made`."""

    order: InvoiceOrder
    request_id: str = ""


class LookUpInvoice(msgspec.Struct, frozen=True, tag="lookup"):
    """Ask for an incoming payment. The answer is `Found`."""

    payment_hash: str


class Made(msgspec.Struct, frozen=True, tag="made"):
    """Answer with an invoice."""

    invoice: Invoice


class Found(msgspec.Struct, frozen=True, tag="found"):
    """Answer with the settled payment, None while there is none."""

    settlement: Settlement | None


class Told(msgspec.Struct, frozen=True, tag="told"):
    """Answer with the treasury's time."""

    time: TreasuryTime


class Reported(msgspec.Struct, frozen=True, tag="reported"):
    """Answer with a report."""

    report: PayoutReport


class Known(msgspec.Struct, frozen=True, tag="known"):
    """Answer yes or no."""

    known: bool


class Unanswered(msgspec.Struct, frozen=True, tag="unanswered"):
    """Error of the node, as the ports have it."""

    message: str
    permanent: bool
    retry_after_s: float | None = None


Question = AskTime | PayOut | LookUp | AskReceived | AskOwn | AskCheck | MakeInvoice | LookUpInvoice
_QUESTIONS: Final = MessageCodec[Any](Question)
_ANSWERS: Final = MessageCodec[Any](Told | Reported | Known | Made | Found | Unanswered)
AnswerT = TypeVar("AnswerT", Told, Reported, Known, Made, Found)


class TreasuryLink(Protocol):
    """Link to the treasury."""

    async def ask(self, question: bytes) -> bytes:
        """Have the desk answer. Raises `LinkError`; `NoHostError` if the question was certainly not asked."""
        ...


class WalletDesk:
    """The treasury's side. At most `at_once` orders are with the node, as many as it pays at the same time."""

    def __init__(
        self,
        lightning: Lightning,
        now_ms: Callable[[], int] = system_now_ms,
        uptime_ms: Callable[[], int] = system_uptime_ms,
        *,
        at_once: int = 1,
    ) -> None:
        self._lightning = lightning
        self._now_ms = now_ms
        self._clock = TreasuryClock(now_ms, uptime_ms)
        self._turn = asyncio.Semaphore(at_once)

    async def answer(self, question: bytes) -> bytes:
        """Return the answer to a question of a `TreasuryWallet`."""
        (asked,) = _QUESTIONS.decode(question)
        try:
            return _ANSWERS.encode([await self._answer(asked)])
        except PortError as error:
            retry_after_s = error.retry_after_s if isinstance(error, TransientError) else None
            return _ANSWERS.encode([Unanswered(str(error), isinstance(error, PermanentError), retry_after_s)])

    async def _answer(self, asked: Question) -> Told | Reported | Known | Made | Found:
        match asked:
            case AskTime():
                return Told(self._clock.read())
            case PayOut(actor_id=actor_id, request_id=request_id):
                log_as(request_id, actor_id)
                return Reported(await self._pay_out(asked))
            case LookUp(target=target, actor_id=actor_id, request_id=request_id):
                log_as(request_id, actor_id)
                return Reported(await self._lightning.payout(target, actor_id))
            case AskReceived(payment_hash=payment_hash):
                return Known(await self._lightning.received(payment_hash))
            case AskOwn(target=target):
                return Known(await self._lightning.is_own(target))
            case AskCheck():
                await self._lightning.check()
                return Known(known=True)
            case MakeInvoice(order=order, request_id=request_id):
                log_as(request_id, order.actor_id)
                return Made(await self._lightning.create_invoice(order))
            case LookUpInvoice(payment_hash=payment_hash):
                return Found(await self._lightning.lookup(payment_hash))

    async def _pay_out(self, order: PayOut) -> PayoutReport:
        try:
            async with asyncio.timeout(self._left_ms(order) / 1_000):
                await self._turn.acquire()
        except TimeoutError:
            return _not_sent()
        try:
            if not self._left_ms(order):
                return _not_sent()
            limit_msat = order.fee_limit_msat
            if limit_msat is None:
                limit_msat = _FORMER_FEES.reserve(order.target.amount_msat)
            return await self._lightning.pay_out(order.target, order.actor_id, limit_msat)
        finally:
            self._turn.release()

    def _left_ms(self, order: PayOut) -> int:
        """Return how long the order may still be sent; 0 for one that was meant for an earlier life of the treasury."""
        if order.began is None:
            return max(0, order.send_before_ms - self._now_ms())
        age_ms = self._clock.age_ms(order.began)
        return 0 if age_ms is None else max(0, order.good_for_ms - age_ms)


def _not_sent() -> PayoutReport:
    # A failure of this call alone: the look-up after it says what became of the payment.
    return PayoutReport(PayoutStatus.FAILED)


class TreasuryWallet:
    """Implementation of `Lightning` for a process without the wallet's admin key: the treasury spends and looks up.

    `invoices` makes and looks up invoices with a key that can't spend; without it the treasury does that, too, and
    nothing but the treasury itself reads balances and lists.
    """

    def __init__(
        self,
        treasury: TreasuryLink,
        invoices: Lightning | None = None,
        *,
        uptime_ms: Callable[[], int] = system_uptime_ms,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        answers_within_s: float = _ANSWERS_WITHIN_S,
    ) -> None:
        self._treasury = treasury
        self._own = invoices
        self._uptime_ms = uptime_ms
        self._pause = pause
        self._answers_within_s = answers_within_s
        self._look_ups = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """See `Lightning.create_invoice`. It waits a little for a treasury that is starting again."""
        if self._own is not None:
            return await self._own.create_invoice(order)
        wait_until_ms = self._uptime_ms() + (0 if order.urgency is Urgency.AHEAD else _INVOICE_WAITS_MS)
        while True:
            try:
                return (await self._exchange(MakeInvoice(order, present_request_id()), Made)).invoice
            except LinkError:
                # Also for a treasury that ended with the order in hand: an invoice that no client sees is never paid.
                if self._uptime_ms() >= wait_until_ms:
                    raise TransientError(_NO_TREASURY) from None
            await self._pause(_LOOK_AGAIN_S)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """See `Lightning.lookup`."""
        if self._own is not None:
            return await self._own.lookup(payment_hash)
        async with self._look_ups:
            return (await self._answer(LookUpInvoice(payment_hash), Found)).settlement

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """See `Lightning.settlements`."""
        return await self._invoices().settlements(limit, offset)

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Have the treasury send a payment, once. Raises `TransientError` whenever it may have been sent.

        The treasury's own clocks say whether the order comes too late, as those of two machines differ. Its time is
        read after this call has begun, so that the order is good for no longer than it would be by this clock.
        """
        give_up_ms = self._uptime_ms() + _ORDER_MS
        while (left_ms := give_up_ms - self._uptime_ms()) > 0:
            began = await self._treasury_time(left_ms)
            good_for_ms = give_up_ms - self._uptime_ms()
            if began is not None and good_for_ms > 0:
                order = PayOut(target, actor_id, 0, fee_limit_msat, began, good_for_ms, present_request_id())
                # Without a treasury nothing was ordered.
                with suppress(NoHostError):
                    return (await self._ask(order, Reported)).report
            await self._pause(_LOOK_AGAIN_S)
        return _not_sent()

    async def _treasury_time(self, within_ms: int) -> TreasuryTime | None:
        """Return the treasury's time, or None: there is none just now, or it does not answer."""
        try:
            async with asyncio.timeout(within_ms / 1_000):
                return (await self._ask(AskTime(), Told)).time
        except (NoHostError, PortError, TimeoutError):
            return None

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """See `Lightning.payout`."""
        return (await self._answer(LookUp(target, actor_id, present_request_id()), Reported)).report

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`."""
        return (await self._answer(AskReceived(payment_hash), Known)).known

    async def is_own(self, target: PayoutTarget) -> bool:
        """See `Lightning.is_own`."""
        return (await self._answer(AskOwn(target), Known)).known

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """See `Lightning.sent`."""
        return await self._invoices().sent(limit, offset)

    async def balance(self) -> Msat:
        """See `Lightning.balance`."""
        return await self._invoices().balance()

    def hints(self) -> AsyncIterator[str]:
        """See `Lightning.hints`."""
        return self._invoices().hints()

    async def check(self) -> None:
        """Raise `PortError` when the treasury can't reach the node, or there is no treasury."""
        await self._answer(AskCheck(), Known)

    async def trouble(self) -> str | None:
        """See `Lightning.trouble`."""
        return await self._invoices().trouble()

    async def close(self) -> None:
        """End connections."""
        if self._own is not None:
            await self._own.close()

    def _invoices(self) -> Lightning:
        if self._own is None:
            raise PermanentError("this process holds no key of the wallet")
        return self._own

    async def _answer(
        self, question: LookUp | AskReceived | AskOwn | AskCheck | LookUpInvoice, kind: type[AnswerT]
    ) -> AnswerT:
        try:
            return await self._ask(question, kind)
        except NoHostError:
            raise TransientError(_NO_TREASURY) from None

    async def _ask(self, question: Any, kind: type[AnswerT]) -> AnswerT:
        """Return the desk's answer. Raises `NoHostError` if the question was not asked, and `PortError`."""
        try:
            return await self._exchange(question, kind)
        except NoHostError:
            raise
        except LinkError as error:
            raise TransientError(f"the treasury can't be reached: {type(error).__name__}") from None

    async def _exchange(self, question: Any, kind: type[AnswerT]) -> AnswerT:
        """Return the desk's answer. Raises `LinkError` and `PortError`."""
        try:
            async with asyncio.timeout(self._answers_within_s):
                (answer,) = _ANSWERS.decode(await self._treasury.ask(_QUESTIONS.encode([question])))
        except TimeoutError as error:
            raise TransientError(f"the treasury can't be reached: {type(error).__name__}") from None
        except msgspec.DecodeError:
            raise TransientError("the treasury's answer can't be read") from None
        if isinstance(answer, Unanswered):
            if answer.permanent:
                raise PermanentError(answer.message)
            raise TransientError(answer.message, answer.retry_after_s)
        if not isinstance(answer, kind):
            raise TransientError("the treasury answered another question")
        return answer
