"""Jobs: their opening, payment, waiting and refunds, as flows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

from .errors import (
    JobTimeoutError,
    PriceTooHighError,
    RefundPendingError,
    SatmeterError,
    WalletError,
    WrongInvoiceError,
)
from .flow import UNAVAILABLE, Flow, Invoke, wait_until
from .models import Invoice, JobOpened, JobStatus, SignedReceipt
from .payments import Payments
from .refunds import PAYOUTS_MAX, is_destination, payable_sats
from .state import Payment
from .wire import Server, new_key

_PAYS_OUT_WITHIN_S: Final = 120.0
_PENDING: Final = frozenset({*UNAVAILABLE, 425})
_MOVED_ON_FROM_EVAL: Final = frozenset(
    {"evaluating", "awaiting_work_payment", "executing", "complete", "rejected", "failed"}
)
_MOVED_ON_FROM_WORK: Final = frozenset({"executing", "complete", "failed"})

Decide = Callable[[JobStatus], Any]


class Jobs:
    """The jobs of one server."""

    def __init__(self, server: Server, payments: Payments) -> None:
        self._server = server
        self._payments = payments

    def create(self, request: str, key: str) -> Flow[JobStatus]:
        """Create a job, or return the one that was created with this key."""
        opened = yield from self._server.call(JobOpened, "POST", "/jobs", body={"request": request}, key=key)
        return (yield from self.show(opened.job_id))

    def show(self, job_id: str) -> Flow[JobStatus]:
        """Return the job as it is now."""
        return (yield from self._server.call(JobStatus, "GET", f"/jobs/{quote(job_id, safe='')}"))

    def receipt(self, job_id: str) -> Flow[SignedReceipt]:
        """Return the receipt of a job that has ended."""
        return (yield from self._server.call(SignedReceipt, "GET", f"/jobs/{quote(job_id, safe='')}/receipt"))

    def pay(self, job_id: str, max_sats: int | None) -> Flow[JobStatus]:
        """Pay the invoice that the job waits for; a job that waits for none is returned as it is."""

        def work() -> Flow[JobStatus]:
            job = yield from self.show(job_id)
            invoice = job.due
            if invoice is None:
                return job
            if max_sats is not None and invoice.amount_sats > max_sats:
                raise PriceTooHighError(invoice.amount_sats, max_sats, _WHAT[job.state])
            quote_ = job.pricing_breakdown
            if job.state == "awaiting_work_payment" and quote_ and quote_.amount_sats != invoice.amount_sats:
                raise WrongInvoiceError("The work's invoice is not over the price that is quoted: it was not paid.")
            yield from self._payments.pay(invoice, invoice.amount_sats, job.job_id)
            return (yield from self.show(job_id))

        return (yield from self._payments.alone(work))

    def wait(self, job_id: str, timeout_s: float) -> Flow[JobStatus]:
        """Return the job once it is done or waits for a payment. Raises `JobTimeoutError`."""
        job = yield from self.show(job_id)

        def rests() -> Flow[bool]:
            nonlocal job
            if job.state in ("evaluating", "executing"):
                job = yield from self.show(job_id)
            return job.state not in ("evaluating", "executing")

        if not (yield from wait_until(rests, timeout_s)):
            raise JobTimeoutError(job)
        return job

    def buy(self, request: str, max_sats: int, key: str, decide: Decide | None, timeout_s: float) -> Flow[JobStatus]:
        """Buy a job from the evaluation to the result, and have its surplus paid back."""
        job = yield from self.create(request, key)
        if job.state == "awaiting_eval_payment":
            yield from self.pay(job.job_id, max_sats)
        job = yield from self.wait(job.job_id, timeout_s)
        if job.state == "awaiting_work_payment":
            assert job.work_invoice is not None
            total_sats = job.eval_invoice.amount_sats + job.work_invoice.amount_sats
            if total_sats > max_sats:
                raise PriceTooHighError(total_sats, max_sats, f"{job.job_id} with its evaluation")
            if decide is not None and not (yield Invoke(decide, (job,))):
                return job
            yield from self.pay(job.job_id, job.work_invoice.amount_sats)
            job = yield from self.wait(job.job_id, timeout_s)
        try:
            return (yield from self.refund(job.job_id, None))
        except SatmeterError:
            return job  # The job is paid for and done. Its debt stays owed, and can be paid out later.

    def refund(self, job_id: str, payment_request: str | None) -> Flow[JobStatus]:
        """Have the job's debt paid back: to this invoice, or until nothing is payable to this address or the wallet."""
        job = yield from self.show(job_id)
        for _ in range(PAYOUTS_MAX):
            amount_sats = payable_sats(job.refund) if job.refund is not None else 0
            if not amount_sats:
                break
            try:
                invoice = payment_request or (yield from self._payments.receive(amount_sats, f"refund of {job_id}"))
            except WalletError:
                break
            job = yield from self._paid_out(job_id, invoice)
            once = payment_request is not None and not is_destination(payment_request)
            if once or job.refund is None or not job.refund.worth_another_invoice:
                break
        return job

    def _paid_out(self, job_id: str, invoice: str) -> Flow[JobStatus]:
        path, body = f"/jobs/{quote(job_id, safe='')}/refund", {"paymentRequest": invoice}
        with suppress(RefundPendingError):  # The payout takes long, and is awaited below.
            yield from self._server.call(JobStatus, "POST", path, body=body, key=new_key(), again=_PENDING)
        job = yield from self.show(job_id)

        def ended() -> Flow[bool]:
            nonlocal job
            job = yield from self.show(job_id)
            return job.refund is None or job.refund.state != "pending"

        yield from wait_until(ended, _PAYS_OUT_WITHIN_S)
        return job

    def seen(self, payment: Payment) -> Flow[bool]:
        """Return True if a payment for a job has arrived."""
        job = yield from self.show(payment.purpose)
        work: Invoice | None = job.work_invoice
        if work is not None and work.payment_hash == payment.invoice.payment_hash:
            return job.state in _MOVED_ON_FROM_WORK
        return job.state in _MOVED_ON_FROM_EVAL or work is not None


_WHAT: Final = {"awaiting_eval_payment": "The evaluation", "awaiting_work_payment": "The work"}
