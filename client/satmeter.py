"""`Satmeter`, the synchronous client."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

import httpx

from .core import Core, Options, question
from .driver_sync import AnswerStream, Runner
from .jobs import Decide
from .macaroons import caveats_of
from .models import Answer, JobStatus, LedgerEntry, Pricing, SessionStatus, SignedReceipt, WithdrawLink
from .wire import new_key

JOB_TIMEOUT_S = 600.0


class Satmeter:
    """A client of one server, and of one session there. It may be used by several threads at once.

    Every method may raise a `SatmeterError`. Repeated requests have the same idempotency key, so that
    nothing is charged twice; `AsyncSatmeter` is the same with coroutines.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None, **options: Unpack[Options]) -> None:
        self._core = Core(url, **options)
        self._runner = Runner(self._core.timeout_s, self._core.connect_timeout_s, transport)

    def __repr__(self) -> str:
        return f"Satmeter({self._core.server.url!r})"

    # Sessions

    def open(self, amount_sats: int) -> SessionStatus:
        """Open a session with this deposit; return it once the deposit is paid and credited."""
        return self._runner.run(self._core.sessions.open(amount_sats))

    def session(self) -> SessionStatus:
        """Return the session as it is now."""
        return self._runner.run(self._core.sessions.show())

    def ask(
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
        return self._runner.run(self._core.sessions.ask(dict(body), key, max_msat))

    def stream(
        self,
        request: str,
        *,
        max_tokens: int | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        max_msat: int | None = None,
    ) -> AnswerStream:
        """Stream the model's answer as it is written: iterate over the text, then look at `.answer`."""
        body, key = question(request, max_tokens, model), idempotency_key or new_key()
        return AnswerStream(self._runner.steps(self._core.sessions.stream(dict(body), key, max_msat)))

    def top_up(self, amount_sats: int) -> SessionStatus:
        """Add to the session's balance, and renew its time."""
        return self._runner.run(self._core.sessions.top_up(amount_sats))

    def ledger(self, after: int = 0) -> list[LedgerEntry]:
        """Return the session's movements after this `seq`, oldest first."""
        return self._runner.run(self._core.sessions.ledger(after))

    def request_receipt(self, request_id: str) -> SignedReceipt:
        """Return the signed receipt of a request of the session, by the `request_id` of its answer."""
        return self._runner.run(self._core.sessions.receipt(request_id))

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

    def name_refund_destination(self, destination: str) -> SessionStatus:
        """Name the Lightning address or LNURL that the session's rest is paid to by itself, once it is over."""
        return self._runner.run(self._core.sessions.name_destination(destination))

    def close_session(self, payment_request: str | None = None) -> SessionStatus:
        """End the session and have the rest paid back: to this invoice or address, or to the wallet; see `refund`."""
        return self._runner.run(self._core.refunds.close(payment_request))

    def withdraw_link(self) -> WithdrawLink:
        """End the session and return a link, with a QR code, by which a phone fetches the rest. It is money."""
        return self._runner.run(self._core.refunds.link())

    # Jobs

    def create_job(self, request: str, *, idempotency_key: str | None = None) -> JobStatus:
        """Create a job, which waits for the payment of its evaluation."""
        return self._runner.run(self._core.jobs.create(request, idempotency_key or new_key()))

    def job(self, job_id: str) -> JobStatus:
        """Return a job as it is now."""
        return self._runner.run(self._core.jobs.show(job_id))

    def pay_job(self, job_id: str, *, max_sats: int | None = None) -> JobStatus:
        """Pay the invoice that the job waits for, if it is over at most `max_sats`."""
        return self._runner.run(self._core.jobs.pay(job_id, max_sats))

    def wait_for_job(self, job_id: str, *, timeout_s: float = JOB_TIMEOUT_S) -> JobStatus:
        """Return the job once it is done or waits for a payment. Raises `JobTimeoutError`."""
        return self._runner.run(self._core.jobs.wait(job_id, timeout_s))

    def buy_job(
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
        return self._runner.run(self._core.jobs.buy(request, max_sats, key, decide, timeout_s))

    def job_receipt(self, job_id: str) -> SignedReceipt:
        """Return the signed receipt of a job that has ended."""
        return self._runner.run(self._core.jobs.receipt(job_id))

    def refund_job(self, job_id: str, payment_request: str | None = None) -> JobStatus:
        """Have the job's debt paid back, to this invoice or address or to the wallet; see its `refund`."""
        return self._runner.run(self._core.jobs.refund(job_id, payment_request))

    # Around both

    def pricing(self) -> Pricing:
        """Return the server's prices."""
        return self._runner.run(self._core.pricing())

    def has_stub_node(self) -> bool:
        """Return True for a development server, to which `StubWallet` pays without money."""
        return self._runner.run(self._core.has_stub_node())

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

    def close(self) -> None:
        """Close connections. The session stays open; see `close_session`."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
