"""Books of one actor that the auditor keeps itself, from the raw fields of events in plain integers of msat.

Nothing of the domain is used here: were its arithmetic wrong, the same mistake here would hide it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_MSAT_PER_SAT: Final = 1_000
Event = Mapping[str, Any]


class AuditError(Exception):
    """An event that can't follow on those before it; the text says why."""


@dataclass(slots=True)
class Payout:
    """A payout according to its journal; `state` is pending, paid or failed. `since_ms`: when it began.

    `uncovered_msat`: the part of the route's cost that is ours; None in journals that did not keep it.
    """

    payment_hash: str
    amount_msat: int
    reserve_msat: int
    since_ms: int
    state: str = "pending"
    fee_msat: int = 0
    uncovered_msat: int | None = None


@dataclass(slots=True)
class Books:
    """Books: received = available + held + spent + owed + pending + refunded.

    `fees`: routing's part of `spent`. `uncovered`: what routes cost beyond it, which is nowhere in the books.
    `invoices`: hashes of all that were made for this actor, paid or not.
    """

    received: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    owed: int = 0
    pending: int = 0
    refunded: int = 0
    fees: int = 0
    uncovered: int = 0
    invoices: list[str] = field(default_factory=list)
    credits: list[tuple[str, int]] = field(default_factory=list)
    payouts: list[Payout] = field(default_factory=list)

    @property
    def liability(self) -> int:
        """Amount that the wallet must hold for this actor.

        The amount in a payout under way is left out: the wallet has set it aside by itself.
        """
        return self.available + self.held + self.owed

    def apply(self, event: Event) -> None:
        """Take an event. Raises `AuditError`, and `KeyError` for one without the fields it must have."""
        raise AuditError(f"an event {event.get('type')} of an actor that is neither a session nor a job")

    def credit(self, payment_hash: str, amount_msat: int) -> None:
        """Credit a settled payment."""
        self.credits.append((payment_hash, amount_msat))
        self.received += amount_msat

    def pay(self, event: Event) -> bool:
        """Follow a payout's event; return False for an event of another kind. Raises `AuditError`."""
        match event["type"]:
            case "payout_started":
                target = event["target"]
                payout = Payout(target["payment_hash"], target["amount_msat"], event["reserve_msat"], event["at_ms"])
                if any(other.state == "pending" for other in self.payouts):
                    raise AuditError("a payout begins while another is under way")
                self.payouts.append(payout)
                self.owed -= payout.amount_msat + payout.reserve_msat
                self.pending += payout.amount_msat + payout.reserve_msat
            case "payout_unclear":
                self._under_way()
            case "payout_paid":
                payout, fee = self._under_way(), event["fee_msat"]
                if payout.payment_hash != event["payment_hash"]:
                    raise AuditError("another payout was paid than the one under way")
                payout.state, payout.fee_msat = "paid", fee
                if event.get("reserve_msat") is not None:
                    if event["reserve_msat"] != payout.reserve_msat:
                        raise AuditError("a payout ends with another reserve than it began with")
                    payout.uncovered_msat = event["uncovered_msat"]
                    self.uncovered += event["uncovered_msat"]
                self.pending -= payout.amount_msat + payout.reserve_msat
                self.refunded += payout.amount_msat
                self.spent += fee
                self.fees += fee
                self.owed += payout.reserve_msat - fee
            case "payout_failed":
                payout = self._under_way()
                payout.state = "failed"
                self.pending -= payout.amount_msat + payout.reserve_msat
                self.owed += payout.amount_msat + payout.reserve_msat
            case _:
                return False
        return True

    def _under_way(self) -> Payout:
        if not self.payouts or self.payouts[-1].state != "pending":
            raise AuditError("a payout ends that never began")
        return self.payouts[-1]

    def check(self) -> None:
        """Raise `AuditError` when something is below zero, or the books do not close."""
        parts = {name: getattr(self, name) for name in ("available", "held", "spent", "owed", "pending", "refunded")}
        below = [name for name, amount in parts.items() if amount < 0]
        if below:
            raise AuditError(f"{' and '.join(below)} below zero")
        if sum(parts.values()) != self.received:
            raise AuditError(f"{self.received} msat came in, and {sum(parts.values())} are accounted for")


class SessionBooks(Books):
    """Books of a session."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = False
        self._holds: dict[str, int] = {}

    def apply(self, event: Event) -> None:
        """Take an event. Raises `AuditError`, and `KeyError` for one without the fields it must have."""
        match event["type"]:
            case "session_opened":
                self.invoices.append(event["deposit_invoice"]["payment_hash"])
            case "top_up_issued":
                self.invoices.append(event["invoice"]["payment_hash"])
            case "deposited":
                self.credit(event["payment_hash"], event["amount_msat"])
                self._give(event["amount_msat"])
            case "hold_placed":
                name, amount = event["hold"]["once"]["name"], event["hold"]["amount_msat"]
                if self._ended or name in self._holds:
                    raise AuditError("a hold after the end, or a second one for the same request")
                self._holds[name] = amount
                self.available -= amount
                self.held += amount
            case "hold_released":
                self._end_hold(event, 0)
            case "request_finished":
                self._end_hold(event, event["debit_msat"])
            case "session_closed" | "session_expired":
                self._ended = True
                self.owed, self.available = self.owed + self.available, 0
            case _:
                if not self.pay(event) and event["type"] not in _SESSION_WITHOUT_MONEY:
                    raise AuditError(f"a session has no event {event['type']!r}")
        self.check()
        if event["balance_msat"] != self.available:
            raise AuditError(f"the journal says that {event['balance_msat']} msat can be spent, not {self.available}")

    def _end_hold(self, event: Event, debit: int) -> None:
        held = self._holds.pop(event["name"], None)
        if held is None or debit + event["released_msat"] != held:
            raise AuditError("a hold ends that was never placed, or over another amount")
        self.held -= held
        self.spent += debit
        self._give(event["released_msat"])

    def _give(self, amount: int) -> None:
        if self._ended:
            self.owed += amount
        else:
            self.available += amount


class JobBooks(Books):
    """Books of a job. `available` stays at nought: a job has no balance."""

    def __init__(self) -> None:
        super().__init__()
        self._eval_fee = 0

    def apply(self, event: Event) -> None:
        """Take an event. Raises `AuditError`, and `KeyError` for one without the fields it must have."""
        match event["type"]:
            case "job_opened":
                self.invoices.append(event["eval_invoice"]["payment_hash"])
                self._eval_fee = event["eval_invoice"]["amount_sats"] * _MSAT_PER_SAT
            case "eval_paid" | "work_paid":
                self.credit(event["payment_hash"], event["amount_msat"])
                self.held += event["amount_msat"]
            case "job_rejected" | "work_invoice_issued":
                if "work_invoice" in event:
                    self.invoices.append(event["work_invoice"]["payment_hash"])
                self._deliver(min(self.held, self._eval_fee))
            case "job_completed":
                self._deliver(event["charged_msat"])
            case "job_failed":
                self._deliver(0)
                returned = event.get("evaluation_returned_msat", 0)
                # An amount paid on top of the fee was kept if it was less than a satoshi. It comes back with the fee.
                if returned and not self._eval_fee <= returned < self._eval_fee + 1_000:
                    raise AuditError(f"{returned} msat of an evaluation come back that cost {self._eval_fee}")
                self.spent -= returned
                self.owed += returned
            case _:
                if not self.pay(event) and event["type"] not in _JOB_WITHOUT_MONEY:
                    raise AuditError(f"a job has no event {event['type']!r}")
        self.check()

    def _deliver(self, spent: int) -> None:
        rest = self.held - spent
        # An amount below a satoshi can't be paid back, as no invoice is over less.
        owed = rest if rest >= _MSAT_PER_SAT else 0
        self.spent += self.held - owed
        self.owed += owed
        self.held = 0


_SESSION_WITHOUT_MONEY: Final = {
    "top_up_requested",
    "top_up_failed",
    "invoice_lapsed",
    "refund_destination_named",
    "refund_try_failed",
    "webhook_tried",
}
_JOB_WITHOUT_MONEY: Final = {
    "attempt_started",
    "attempt_failed",
    "job_accepted",
    "job_expired",
    "refund_try_failed",
    "request_dropped",
    "webhook_tried",
}


def books_of(actor_id: str) -> SessionBooks | JobBooks:
    """Return empty books for this kind of actor. Raises `AuditError` for an id of no kind."""
    match actor_id.partition("_")[0]:
        case "ses":
            return SessionBooks()
        case "job":
            return JobBooks()
    raise AuditError("no actor that keeps money has such an id")
