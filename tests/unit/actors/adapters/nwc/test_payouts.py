"""Wallets' words on payments that we order: which end something, and which are a claim about the call alone."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from satmeter.actors.adapters.nwc.exchange import Answer, WalletError
from satmeter.actors.adapters.nwc.messages import Transaction
from satmeter.actors.adapters.nwc.payouts import Absences, is_refusal, read_look_up, read_order_answer, sent_payment
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from satmeter.actors.ports import PermanentError, TransientError
from tests.lightning.stand_ins.nwc.books import foreign_invoice

PREIMAGE = "11" * 32
HASH = hashlib.sha256(bytes.fromhex(PREIMAGE)).hexdigest()
TARGET = PayoutTarget("lnbcrt1", HASH, Msat(250_000))
PAID = {
    "type": "outgoing", "state": "settled", "payment_hash": HASH, "amount": 250_000, "fees_paid": 1_500,
    "settled_at": 1_800_000_000, "preimage": PREIMAGE,
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("UNAUTHORIZED", PayoutRefusal.KEY),
        ("RESTRICTED", PayoutRefusal.KEY),
        ("EXPIRED", PayoutRefusal.KEY),
        ("NOT_IMPLEMENTED", PayoutRefusal.KEY),
        ("INSUFFICIENT_BALANCE", PayoutRefusal.FUNDS),
        ("QUOTA_EXCEEDED", PayoutRefusal.RULES),
        ("RATE_LIMITED", PayoutRefusal.RULES),
        ("PAYMENT_FAILED", None),
        ("INTERNAL", None),
        ("OTHER", None),
        ("BAD_REQUEST", None),
        (None, None),
    ],
)
def test_an_error_is_a_refusal_only_where_it_comes_before_any_payment(
    code: str | None, refusal: PayoutRefusal | None
) -> None:
    report = read_order_answer(Answer(error=WalletError(code, "words")), TARGET)
    assert report == PayoutReport(PayoutStatus.FAILED, refusal=refusal)
    assert is_refusal(report) is (refusal is not None)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"preimage": PREIMAGE, "fees_paid": 1_500}, PayoutStatus.PAID),
        ({"preimage": PREIMAGE.upper(), "fees_paid": 1_500}, PayoutStatus.PAID),
        # The look-up tells what the route cost.
        ({"preimage": PREIMAGE}, PayoutStatus.PENDING),
        ({"fees_paid": 1_500}, PayoutStatus.PENDING),  # Primal
        ({"preimage": "00" * 32, "fees_paid": 1_500}, PayoutStatus.PENDING),  # LNbits
        ({"preimage": "5ff1e5a0-7b0e", "fees_paid": 1_500}, PayoutStatus.PENDING),  # coinos
        ({}, PayoutStatus.PENDING),
        (None, PayoutStatus.PENDING),
        ("paid", PayoutStatus.PENDING),
    ],
)
def test_an_order_was_paid_only_with_its_preimage(result: Any, status: PayoutStatus) -> None:
    assert read_order_answer(Answer(result=result), TARGET).status is status


def test_a_paid_order_tells_its_fee() -> None:
    result = {"preimage": PREIMAGE, "fees_paid": 1_500}
    assert read_order_answer(Answer(result=result), TARGET) == PayoutReport(PayoutStatus.PAID, Msat(1_500))


def look_up(**changes: Any) -> PayoutReport | None:
    return read_look_up(Answer(result={**PAID, **changes}), TARGET)


def test_a_look_up_tells_how_a_payment_ended() -> None:
    assert look_up() == PayoutReport(PayoutStatus.PAID, Msat(1_500))
    assert look_up(state="failed") == PayoutReport(PayoutStatus.FAILED)
    assert look_up(state="pending") == PayoutReport(PayoutStatus.PENDING)
    assert look_up(fees_paid=0) == PayoutReport(PayoutStatus.PAID)
    assert look_up(type="incoming") is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"fees_paid": None}, PermanentError),
        ({"state": "expired"}, PermanentError),
        ({"state": "odd"}, PermanentError),
        ({"state": None, "preimage": None}, PermanentError),
        ({"amount": 249_000}, TransientError),
        ({"amount": None}, TransientError),
        ({"payment_hash": "ab" * 32}, TransientError),
        ({"payment_hash": None}, TransientError),
        ({"type": None}, TransientError),
    ],
)
def test_what_a_wallet_does_not_tell_is_not_guessed(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        look_up(**changes)


def test_a_payment_that_had_failed_stays_so_when_its_invoice_lapses() -> None:
    lapsed = Answer(result={**PAID, "state": "expired"})
    assert read_look_up(lapsed, TARGET, failed=True) == PayoutReport(PayoutStatus.FAILED)
    with pytest.raises(PermanentError):
        read_look_up(lapsed, TARGET)
    assert read_look_up(Answer(result=PAID), TARGET, failed=True) == PayoutReport(PayoutStatus.PAID, Msat(1_500))


def test_an_error_of_a_look_up_says_nothing_of_the_payment() -> None:
    absent = read_look_up(Answer(error=WalletError("NOT_FOUND", "")), TARGET)
    assert absent == PayoutReport(PayoutStatus.ABSENT)
    with pytest.raises(TransientError):
        read_look_up(Answer(error=WalletError("INTERNAL", "")), TARGET)
    with pytest.raises(PermanentError):
        read_look_up(Answer(error=WalletError("RESTRICTED", "")), TARGET)


def test_what_went_out_is_told_as_the_wallet_has_it() -> None:
    row = Transaction(payment_hash=HASH, amount=-250_000, fees_paid=-1_500, settled_at=7)
    assert sent_payment(row) == SentPayment(HASH, HASH, Msat(250_000), Msat(1_500), "", 7_000)
    assert sent_payment(Transaction()) == SentPayment("", "", Msat(0), Msat(0), "", 0)


class Setting:
    """A memory of absences in a time of its own. `seen_s`: when each relay last brought a word of the wallet's."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.wall_s = 1_800_000_000.0
        self.seen_s = [1_000.0, 1_000.0]
        self.target = foreign_invoice(250, int(self.wall_s), expiry_s=3_600)
        self.absences = Absences(self.seen_everywhere_since, settles_s=300, clock_s=lambda: self.wall_s)

    def seen_everywhere_since(self, at_s: float) -> bool:
        return all(seen_s >= at_s for seen_s in self.seen_s)

    def later(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_s += seconds

    def hear(self, *relays: int) -> None:
        for relay in relays:
            self.seen_s[relay] = self.now_s

    @property
    def is_certain(self) -> bool:
        return self.absences.is_certain(self.target, self.now_s)


def test_never_heard_of_it_counts_when_the_wallet_stays_with_it() -> None:
    setting = Setting()
    assert not setting.is_certain
    setting.later(299)
    setting.hear(0, 1)
    assert not setting.is_certain
    setting.later(1)
    assert setting.is_certain


def test_a_relay_over_which_the_wallet_is_silent_may_still_hold_the_order() -> None:
    setting = Setting()
    assert not setting.is_certain
    setting.later(3_000)
    setting.hear(0)
    setting.seen_s[1] = 0
    assert not setting.is_certain
    setting.later(600)
    assert not setting.is_certain, "the invoice has just lapsed, and clocks differ"
    setting.later(301)
    assert setting.is_certain, "no wallet pays it any more"


def test_the_wallet_s_own_refusal_makes_it_certain_at_once() -> None:
    setting = Setting()
    setting.absences.refuse(setting.target.payment_hash)
    assert setting.is_certain


def test_a_new_order_voids_what_was_said_before() -> None:
    setting = Setting()
    setting.absences.refuse(setting.target.payment_hash)
    assert setting.is_certain
    setting.absences.order(setting.target.payment_hash)
    assert not setting.is_certain


def test_a_wallet_that_did_know_it_begins_from_the_start() -> None:
    setting = Setting()
    assert not setting.is_certain
    setting.later(200)
    setting.absences.found(setting.target.payment_hash, PayoutStatus.PENDING)
    setting.later(200)
    setting.hear(0, 1)
    assert not setting.is_certain


def test_a_failure_is_remembered_until_the_next_order() -> None:
    setting, payment_hash = Setting(), HASH
    for status in (PayoutStatus.PENDING, PayoutStatus.PAID):
        setting.absences.found(payment_hash, status)
        assert not setting.absences.has_failed(payment_hash)
    setting.absences.found(payment_hash, PayoutStatus.FAILED)
    assert setting.absences.has_failed(payment_hash)
    setting.absences.order(payment_hash)
    assert not setting.absences.has_failed(payment_hash)


def test_the_memory_is_bounded() -> None:
    setting = Setting()
    for number in range(11_000):
        setting.absences.refuse(f"{number:064x}")
    assert len(setting.absences._refused) == 10_000
