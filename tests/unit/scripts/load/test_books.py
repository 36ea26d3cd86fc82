"""The check of the books finds each kind of difference, and none in books that close."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from satmeter.scripts.load.books import Entry, Refund, Status, Tally, differences

DEPOSIT = 1_000_000
HOLD = 5_000
DEBITS = {"req_a": 2_000, "req_b": 3_000}


def _ledger(rows: Sequence[tuple[str, int, str | None]]) -> list[Entry]:
    """Entries with numbers and balances that fit."""
    sign = {"deposit": 1, "hold": -1, "debit": 0, "release": 1, "refund": -1}
    entries, balance = [], 0
    for seq, (kind, amount, request_id) in enumerate(rows, 1):
        balance += sign[kind] * amount
        entries.append(Entry(seq=seq, kind=kind, amount_msat=amount, balance_msat=balance, request_id=request_id))
    return entries


ROWS: list[tuple[str, int, str | None]] = [("deposit", DEPOSIT, None)]
for _id, _debit in DEBITS.items():
    ROWS += [("hold", HOLD, _id), ("debit", _debit, _id), ("release", HOLD - _debit, _id)]
ENTRIES = _ledger(ROWS)
STATUS = Status(
    session_id="ses_1",
    state="active",
    balance_msat=DEPOSIT - 5_000,
    held_msat=0,
    deposited_msat=DEPOSIT,
    spent_msat=5_000,
    refund=Refund(owed_msat=0, paid_msat=0),
)


def _tally(**changes: int) -> Tally:
    tally = Tally()
    tally.paid_in_msat = DEPOSIT
    for request_id, debit_msat in {**DEBITS, **changes}.items():
        tally.tell(request_id, debit_msat)
    return tally


def _found(tally: Tally, status: Status = STATUS, entries: Sequence[Entry] = ENTRIES) -> str:
    return "; ".join(differences(tally, status, entries))


def test_books_that_close_have_no_difference() -> None:
    assert _found(_tally()) == ""


def test_books_of_a_closed_and_refunded_session_close_with_the_routing_fee() -> None:
    rest = DEPOSIT - 5_000
    entries = _ledger([*ROWS, ("refund", rest, None), ("debit", 1_000, None)])
    refund = Refund(owed_msat=9_000, paid_msat=rest - 10_000)
    status = replace(STATUS, state="closed", balance_msat=0, spent_msat=6_000, refund=refund)
    assert _found(_tally(), status, entries) == ""
    assert "refund.owedMsat + refund.paidMsat" in _found(_tally(), replace(status, refund=Refund(1, 1)), entries)


def test_a_lost_debit_is_found() -> None:
    lost = _ledger([row for row in ROWS if row[2] != "req_b"])
    status = replace(STATUS, spent_msat=2_000, balance_msat=DEPOSIT - 2_000)
    found = _found(_tally(), status, lost)
    assert "req_b told a debit of 3000 msat, which is not in the ledger" in found
    assert "spentMsat is 2000" in found


def test_a_doubled_debit_is_found() -> None:
    doubled = _ledger([*ROWS, ("hold", HOLD, "req_b"), ("debit", 3_000, "req_b"), ("release", 2_000, "req_b")])
    status = replace(STATUS, spent_msat=8_000, balance_msat=DEPOSIT - 8_000)
    found = _found(_tally(), status, doubled)
    assert "req_b was debited 2 times" in found and "spentMsat is 8000" in found


def test_a_second_debit_under_an_id_that_nobody_was_told_is_found() -> None:
    more = _ledger([*ROWS, ("hold", HOLD, "req_c"), ("debit", 3_000, "req_c"), ("release", 2_000, "req_c")])
    status = replace(STATUS, spent_msat=8_000, balance_msat=DEPOSIT - 8_000)
    assert "1 debits that no answer told, such as req_c" in _found(_tally(), status, more)
    # Allowed, and no more than that, where the outcome of one request is unknown.
    tally = _tally()
    tally.unknown = 1
    assert _found(tally, status, more) == ""
    assert tally.untold(more) == {"req_c": 3_000}
    assert "spentMsat is 8001, but the answers told debits of 5000 to 8000" in _found(
        tally, replace(status, spent_msat=8_001, balance_msat=DEPOSIT - 8_001), more
    )


def test_an_unknown_outcome_that_cost_nothing_is_allowed() -> None:
    tally = _tally()
    tally.unknown = 3
    assert _found(tally) == ""


def test_a_debit_other_than_the_answer_told_is_found() -> None:
    assert "req_a told a debit of 2001 msat, but the ledger has 2000" in _found(_tally(req_a=2_001))


def test_a_wrong_deposit_is_found() -> None:
    tally = _tally()
    tally.paid_in_msat = DEPOSIT + 1_000
    assert f"depositedMsat is {DEPOSIT}, but {DEPOSIT + 1_000} msat were paid in" in _found(tally)


def test_two_keys_answered_as_one_request_are_found() -> None:
    tally = _tally()
    tally.tell("req_a", 2_000)
    assert "requests under two keys were answered as the same one, req_a" in _found(tally)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: replace(s, balance_msat=-1, spent_msat=DEPOSIT + 1), "balanceMsat is -1"),
        (lambda s: replace(s, held_msat=1_000, balance_msat=s.balance_msat - 1_000), "heldMsat is still 1000"),
        (lambda s: replace(s, balance_msat=s.balance_msat + 1), "but balance, held, spent, owed and paid back are"),
        (lambda s: replace(s, spent_msat=4_999, balance_msat=s.balance_msat + 1), "spentMsat is 4999"),
        (lambda s: replace(s, refund=Refund(1, 0), balance_msat=s.balance_msat - 1), "refund.owedMsat"),
    ],
)
def test_a_session_that_shows_other_numbers_is_found(change: Callable[[Status], Status], words: str) -> None:
    assert words in _found(_tally(), change(STATUS))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (ENTRIES[:-1], "balanceMsat is 995000, but the ledger adds up to 993000"),
        (ENTRIES[:-1], "of what was on hold for req_b, 2000 msat were neither debited nor released"),
        (ENTRIES[:3] + ENTRIES[4:], "entry 4 has the number 5"),
        ([*ENTRIES[:2], replace(ENTRIES[2], balance_msat=7), *ENTRIES[3:]], "entry 3 shows a balance of 7"),
        ([*ENTRIES[:2], replace(ENTRIES[2], kind="gift"), *ENTRIES[3:]], "unknown kind 'gift'"),
        (_ledger([("hold", HOLD, "req_a"), *ROWS]), "entry 1 takes the balance to -5000"),
        ([], "depositedMsat is 1000000, but the ledger adds up to 0"),
    ],
)
def test_a_ledger_that_does_not_add_up_is_found(entries: list[Entry], words: str) -> None:
    assert words in _found(_tally(), STATUS, entries)
