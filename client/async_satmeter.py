"""`AsyncSatmeter`, the client for asyncio."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

import httpx

from .core import Core, Options, question
from .driver_async import AsyncAnswerStream, AsyncRunner
from .jobs import Decide
from .macaroons import caveats_of
from .models import Answer, JobStatus, LedgerEntry, Pricing, SessionStatus, SignedReceipt, WithdrawLink
from .satmeter import JOB_TIMEOUT_S
from .wire import new_key


class AsyncSatmeter:
    """`Satmeter` for asyncio. It may be used by several tasks at once."""

    def __init__(
        self, url: str, *, transport: httpx.AsyncBaseTransport | None = None, **options: Unpack[Options]
    ) -> None:
        self._core = Core(url, **options)
        self._runner = AsyncRunner(self._core.timeout_s, self._core.connect_timeout_s, transport)

    def __repr__(self) -> str:
        return f"AsyncSatmeter({self._core.server.url!r})"

    # Sessions

    async def open(self, amount_sats: int) -> SessionStatus:
        """Open a session with this deposit; return it once the deposit is paid and credited."""
        return await self._runner.run(self._core.sessions.open(amount_sats))

    async def session(self) -> SessionStatus:
        """Return the session as it is now."""
        return await self._runner.run(self._core.sessions.show())

    async def ask(
        self,
        request: str,
        *,
        max_tokens: int | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        max_msat: int | None = None,
    ) -> Answer:
        """Return the model's answer. Your own key lets you repeat it; `max_msat` is the most that it may cost."""
        body, key = question(request, max_tokens, model), idempotency_key or new_key()
        return await self._runner.run(self._core.sessions.ask(dict(body), key, max_msat))

    def stream(
        self,
        request: str,
        *,
        max_tokens: int | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        max_msat: int | None = None,
    ) -> AsyncAnswerStream:
        """Stream the model's answer as it is written: iterate over the text, then await `.answer()`."""
        body, key = question(request, max_tokens, model), idempotency_key or new_key()
        return AsyncAnswerStream(self._runner.steps(self._core.sessions.stream(dict(body), key, max_msat)))

    async def top_up(self, amount_sats: int) -> SessionStatus:
        """Add to the session's balance, and renew its time."""
        return await self._runner.run(self._core.sessions.top_up(amount_sats))

    async def ledger(self, after: int = 0) -> list[LedgerEntry]:
        """Return the session's movements after this `seq`, oldest first."""
        return await self._runner.run(self._core.sessions.ledger(after))

    async def request_receipt(self, request_id: str) -> SignedReceipt:
        """Return the signed receipt of a request of the session, by the `request_id` of its answer."""
        return await self._runner.run(self._core.sessions.receipt(request_id))

    def narrow(
        self,
        *,
        max_msat: int | None = None,
        max_msat_per_request: int | None = None,
        max_msat_per: str | None = None,
        expires_at: datetime | int | None = None,
        actions: Collection[str] | None = None,
        name: str | None = None,
    ) -> str:
        """Return the session's macaroon, narrowed for another holder. Needs no server. Raises `ValueError`.

        `max_msat_per="50000/day"` is a budget that renews at whole UTC hours, days or weeks.
        """
        return self._core.narrowed(
            caveats_of(
                max_msat=max_msat,
                max_msat_per_request=max_msat_per_request,
                max_msat_per=max_msat_per,
                expires_at=expires_at,
                actions=actions,
                name=name,
            )
        )

    async def name_refund_destination(self, destination: str) -> SessionStatus:
        """Name the Lightning address or LNURL that the session's rest is paid to by itself, once it is over."""
        return await self._runner.run(self._core.sessions.name_destination(destination))

    async def close_session(self, payment_request: str | None = None) -> SessionStatus:
        """End the session and have the rest paid back: to this invoice or address, or to the wallet; see `refund`."""
        return await self._runner.run(self._core.refunds.close(payment_request))

    async def withdraw_link(self) -> WithdrawLink:
        """End the session and return a link, with a QR code, by which a phone fetches the rest. It is money."""
        return await self._runner.run(self._core.refunds.link())

    # Jobs

    async def create_job(self, request: str, *, idempotency_key: str | None = None) -> JobStatus:
        """Create a job, which waits for the payment of its evaluation."""
        return await self._runner.run(self._core.jobs.create(request, idempotency_key or new_key()))

    async def job(self, job_id: str) -> JobStatus:
        """Return a job as it is now."""
        return await self._runner.run(self._core.jobs.show(job_id))

    async def pay_job(self, job_id: str, *, max_sats: int | None = None) -> JobStatus:
        """Pay the invoice that the job waits for, if it is over at most `max_sats`."""
        return await self._runner.run(self._core.jobs.pay(job_id, max_sats))

    async def wait_for_job(self, job_id: str, *, timeout_s: float = JOB_TIMEOUT_S) -> JobStatus:
        """Return the job once it is done or waits for a payment. Raises `JobTimeoutError`."""
        return await self._runner.run(self._core.jobs.wait(job_id, timeout_s))

    async def buy_job(
        self,
        request: str,
        *,
        max_sats: int,
        decide: Decide | None = None,
        idempotency_key: str | None = None,
        timeout_s: float = JOB_TIMEOUT_S,
    ) -> JobStatus:
        """Buy a whole job for at most `max_sats` in all. `decide(job)` may look at the quote and return False.

        The estimate's surplus comes back to the wallet. Raises `PriceTooHighError` before the work is paid.
        """
        key = idempotency_key or new_key()
        return await self._runner.run(self._core.jobs.buy(request, max_sats, key, decide, timeout_s))

    async def job_receipt(self, job_id: str) -> SignedReceipt:
        """Return the signed receipt of a job that has ended."""
        return await self._runner.run(self._core.jobs.receipt(job_id))

    async def refund_job(self, job_id: str, payment_request: str | None = None) -> JobStatus:
        """Have the job's debt paid back, to this invoice or address or to the wallet; see its `refund`."""
        return await self._runner.run(self._core.jobs.refund(job_id, payment_request))

    # Around both

    async def pricing(self) -> Pricing:
        """Return the server's prices."""
        return await self._runner.run(self._core.pricing())

    async def has_stub_node(self) -> bool:
        """Return True for a development server, to which `StubWallet` pays without money."""
        return await self._runner.run(self._core.has_stub_node())

    @property
    def has_session(self) -> bool:
        """True if there is a session to pay requests from."""
        return self._core.accounts.current() is not None

    @property
    def paid_sats(self) -> int:
        """Sats paid in all, including payments with an unknown outcome."""
        return self._core.payments.committed_sats

    @property
    def budget_left_sats(self) -> int | None:
        """Sats left of the budget; None without a budget."""
        return self._core.payments.left_sats

    async def close(self) -> None:
        """Close connections. The session stays open; see `close_session`."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
