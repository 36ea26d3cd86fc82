"""Books of a session, checked against what its client paid and what the answers said. Pure: it does no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

# Effect of an entry's kind on the balance. A debit takes from what is on hold.
_SIGN: Final = {"deposit": 1, "hold": -1, "debit": 0, "release": 1, "refund": -1}


class Refund(msgspec.Struct, frozen=True, rename="camel"):
    """Amounts owed to the client, and paid back."""

    owed_msat: int
    paid_msat: int
    state: str = ""
    payable_sats: int = 0


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """A session as the server shows it."""

    session_id: str
    state: str
    balance_msat: int
    held_msat: int
    deposited_msat: int
    spent_msat: int
    refund: Refund


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of the session's ledger."""

    seq: int
    kind: str
    amount_msat: int
    balance_msat: int
    request_id: str | None = None


class Tally:
    """Knowledge that the client has of a session: what it paid in, and what the answers said was debited."""

    def __init__(self) -> None:
        self.paid_in_msat = 0
        self.debits_msat: dict[str, int] = {}
        self.unknown = 0
        self.shared: list[str] = []

    def tell(self, request_id: str, debited_msat: int) -> None:
        """Note the answer to one Idempotency-Key, counted once however often it was sent for."""
        if request_id in self.debits_msat:
            self.shared.append(request_id)
        self.debits_msat[request_id] = debited_msat

    @property
    def told_msat(self) -> int:
        """Sum of the debits that the answers reported."""
        return sum(self.debits_msat.values())

    def untold(self, entries: Sequence[Entry]) -> dict[str, int]:
        """Return the debits of requests in the ledger that no answer reported, by request."""
        return {
            entry.request_id: entry.amount_msat
            for entry in entries
            if entry.kind == "debit" and entry.request_id is not None and entry.request_id not in self.debits_msat
        }


def differences(tally: Tally, status: Status, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a sentence for each thing that does not add up; none for books that close.

    No request may be under way any more: an amount still on hold is a difference.
    """
    yield from _of_status(tally, status)
    yield from _of_ledger(status, entries)
    yield from _of_answers(tally, status, entries)


def _of_status(tally: Tally, status: Status) -> Iterator[str]:
    refund = status.refund
    parts = status.balance_msat + status.held_msat + status.spent_msat + refund.owed_msat + refund.paid_msat
    if status.balance_msat < 0:
        yield f"balanceMsat is {status.balance_msat}, which is below zero"
    if status.held_msat:
        yield f"heldMsat is still {status.held_msat}, although no request is under way"
    if status.deposited_msat != parts:
        yield (
            f"depositedMsat is {status.deposited_msat}, but balance, held, spent, owed and paid back are {parts} in all"
        )
    if status.deposited_msat != tally.paid_in_msat:
        yield f"depositedMsat is {status.deposited_msat}, but {tally.paid_in_msat} msat were paid in"


def _of_ledger(status: Status, entries: Sequence[Entry]) -> Iterator[str]:
    """Check the ledger in itself, and against the session."""
    balance_msat, held_msat = 0, Counter[str]()
    sums: Counter[str] = Counter()
    fees_msat = 0
    for number, entry in enumerate(entries, 1):
        if entry.seq != number:
            yield f"the ledger's entry {number} has the number {entry.seq}"
            return
        if entry.kind not in _SIGN:
            yield f"the ledger's entry {entry.seq} is of the unknown kind {entry.kind!r}"
            return
        balance_msat += _SIGN[entry.kind] * entry.amount_msat
        if entry.balance_msat != balance_msat:
            shown_msat = entry.balance_msat
            yield f"the ledger's entry {entry.seq} shows a balance of {shown_msat}, but it adds up to {balance_msat}"
            return
        if balance_msat < 0:
            yield f"the ledger's entry {entry.seq} takes the balance to {balance_msat}"
        sums[entry.kind] += entry.amount_msat
        if entry.kind == "debit" and entry.request_id is None:
            fees_msat += entry.amount_msat
        elif entry.request_id is not None and entry.kind in ("hold", "debit", "release"):
            held_msat[entry.request_id] += entry.amount_msat if entry.kind == "hold" else -entry.amount_msat
    refunded_msat = status.refund.owed_msat + status.refund.paid_msat
    for name, shown, ledger in (
        ("depositedMsat", status.deposited_msat, sums["deposit"]),
        ("balanceMsat", status.balance_msat, balance_msat),
        ("spentMsat", status.spent_msat, sums["debit"]),
        ("refund.owedMsat + refund.paidMsat", refunded_msat, sums["refund"] - fees_msat),
    ):
        if shown != ledger:
            yield f"{name} is {shown}, but the ledger adds up to {ledger}"
    for request_id, rest_msat in held_msat.items():
        if rest_msat:
            yield f"of what was on hold for {request_id}, {rest_msat} msat were neither debited nor released"


def _of_answers(tally: Tally, status: Status, entries: Sequence[Entry]) -> Iterator[str]:
    """Check the debits against what the answers said."""
    for request_id in tally.shared:
        yield f"requests under two keys were answered as the same one, {request_id}"
    debits = [entry for entry in entries if entry.kind == "debit"]
    by_request = Counter(entry.request_id for entry in debits if entry.request_id is not None)
    for request_id, times in by_request.items():
        if times > 1:
            yield f"{request_id} was debited {times} times"
    amounts = {entry.request_id: entry.amount_msat for entry in debits}
    for request_id, told_msat in tally.debits_msat.items():
        if request_id not in amounts:
            yield f"the answer {request_id} told a debit of {told_msat} msat, which is not in the ledger"
        elif amounts[request_id] != told_msat:
            yield f"the answer {request_id} told a debit of {told_msat} msat, but the ledger has {amounts[request_id]}"
    untold = tally.untold(entries)
    if len(untold) > tally.unknown:
        yield (
            f"the ledger has {len(untold)} debits that no answer told, such as {next(iter(untold))}, "
            f"but of only {tally.unknown} requests the outcome is unknown"
        )
    fees_msat = sum(entry.amount_msat for entry in debits if entry.request_id is None)
    least_msat = tally.told_msat + fees_msat
    most_msat = least_msat + (sum(untold.values()) if tally.unknown else 0)
    if not least_msat <= status.spent_msat <= most_msat:
        allowed = f"{least_msat}" if least_msat == most_msat else f"{least_msat} to {most_msat}"
        yield f"spentMsat is {status.spent_msat}, but the answers told debits of {allowed}"
