"""The books that the simulator keeps of narrowed credentials: each breach is told, and what is allowed is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from satmeter.scripts.simulation.books.holders import Asking, Caveat, Credential, HolderBook
from satmeter.scripts.simulation.books.sessions import BrokenError
from satmeter.scripts.simulation.patching import START_MS

SES = "ses_0"


def credential(*caveats: str) -> Credential:
    made = [
        Caveat(" / ".join(caveats[: at + 1]), *(part.strip() for part in caveat.split("=")))
        for at, caveat in enumerate(caveats)
    ]
    return Credential(SES, made[-1].token if made else "", tuple(made))


PARENT = credential("max_msat = 9000")
CHILDREN = [credential("max_msat = 9000", f"name = {name}") for name in "ab"]
READER = credential("actions = read", "actions = topup", "actions = close")


def book() -> HolderBook:
    kept = HolderBook(lambda: 10.0)
    kept.joins(SES, lambda: False)
    return kept


def holds(kept: HolderBook, number: int, by: Credential, msat: int, **changes: Any) -> None:
    kept.asks(f"req_{number}", by, "request")
    hold = {"request_id": f"req_{number}", "once": {"name": f"k{number}"}, "amount_msat": msat, "spender": by.spender}
    kept.wrote(SES, 1, {"type": "hold_placed", "at_ms": START_MS, "hold": hold | changes})


def released(kept: HolderBook, number: int, msat: int) -> None:
    kept.wrote(SES, 1, {"type": "request_finished", "name": f"k{number}", "released_msat": msat})


def payout(kept: HolderBook, by: Credential) -> None:
    kept.closes(by, "hash")
    target = {"payment_hash": "hash", "amount_msat": 5_000}
    kept.wrote(SES, 1, {"type": "payout_started", "at_ms": START_MS, "target": target, "reserve_msat": 2_000})


def test_all_that_is_derived_from_a_limit_shares_it_and_what_is_released_comes_back() -> None:
    kept = book()
    holds(kept, 1, CHILDREN[0], 6_000)
    released(kept, 1, 3_000)
    holds(kept, 2, CHILDREN[1], 6_000)
    with pytest.raises(BrokenError, match="9001 msat are used under a limit of 9000"):
        holds(kept, 3, PARENT, 1)


def test_siblings_with_the_same_words_share_nothing() -> None:
    kept = book()
    for number, name in enumerate("ab"):
        holds(kept, number, credential(f"name = {name}", "max_msat = 9000"), 9_000)


@pytest.mark.parametrize(
    "breach",
    [
        lambda kept: holds(kept, 1, READER, 1),
        lambda kept: holds(kept, 1, credential("expires_at = 1800000000"), 1),
        lambda kept: holds(kept, 1, credential("max_msat_per_request = 5"), 6),
        lambda kept: holds(kept, 1, CHILDREN[0], 1, spender="b"),
        lambda kept: payout(kept, PARENT),
        lambda kept: payout(kept, READER),
        lambda kept: payout(kept, credential("max_msat_per_request = 6999")),
        lambda kept: kept.granted(Asking(READER, ("read",), START_MS)),
        lambda kept: kept.wrote(SES, 1, {"type": "session_closed", "at_ms": START_MS}),
        lambda kept: kept.told("req_9", CHILDREN[0]),
        lambda kept: kept.refused(Asking(PARENT, ("request",), START_MS, 9_000), "caveat_violated"),
        lambda kept: kept.refused(Asking(PARENT, ("request",), START_MS), "idempotency_conflict", ["x"]),
        lambda kept: kept.refused(Asking(PARENT, ("request",), START_MS), "invalid_credential"),
    ],
)
def test_a_breach_is_told(breach: Callable[[HolderBook], None]) -> None:
    with pytest.raises(BrokenError):
        breach(book())


def test_an_answer_is_its_buyer_s_and_that_of_those_above() -> None:
    kept = book()
    holds(kept, 1, CHILDREN[0], 1_000)
    for above in (CHILDREN[0], PARENT, credential()):
        kept.told("req_1", above)
    with pytest.raises(BrokenError):
        kept.told("req_1", CHILDREN[1])


@pytest.mark.parametrize("least_msat", [3_000, 3_001])
def test_a_refusal_is_right_where_what_is_left_does_not_cover_the_least(least_msat: int) -> None:
    kept, asking = book(), Asking(PARENT, ("request",), START_MS + 10_000, least_msat)
    holds(kept, 1, PARENT, 6_000)
    if least_msat > 3_000:
        kept.refused(asking, "caveat_violated")
    else:
        with pytest.raises(BrokenError):
            kept.refused(asking, "caveat_violated")


def test_a_payout_within_a_limit_for_each_request_is_allowed() -> None:
    payout(book(), credential("max_msat_per_request = 7000"))
