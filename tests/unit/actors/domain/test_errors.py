"""Statements of refusals about money, in their sentences and in their fields."""

from __future__ import annotations

import pytest

from satmeter.actors.domain import errors
from satmeter.actors.domain.errors import IN_DOUBT, Code, Refusal
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.http.sessions.answer import broken_refusal

CERTAIN = [
    errors.unavailable("The store"),
    errors.behind(),
    errors.too_many_waiting(),
    errors.node_unavailable(9_000),
    errors.wallet_short(),
    errors.model_failed(),
    *[errors.model_failed(fault, 9_000) for fault in ModelFault],
    broken_refusal("req_1", Msat(0), Msat(5)),
]
UNKNOWN = [errors.in_doubt(), errors.unconfirmed(), errors.cut_off(), errors.broken(begun=True)]
CHARGED = [broken_refusal("req_1", Msat(3), Msat(5))]


@pytest.mark.parametrize("refusal", CERTAIN)
def test_what_charged_nothing_says_so_and_is_certain_of_it(refusal: Refusal) -> None:
    assert "othing was charged" in refusal.message and IN_DOUBT not in refusal.details
    assert not refusal.details.get("debitedMsat")


@pytest.mark.parametrize("refusal", UNKNOWN)
def test_what_may_have_charged_says_that_it_is_not_known(refusal: Refusal) -> None:
    assert refusal.code is Code.UNAVAILABLE and refusal.details[IN_DOUBT] is True
    assert "othing was charged" not in refusal.message and "Nothing is lost" not in refusal.message
    assert "Idempotency-Key" in refusal.message


@pytest.mark.parametrize("refusal", CHARGED)
def test_what_charged_something_says_what(refusal: Refusal) -> None:
    assert "was charged, and the rest" in refusal.message and refusal.details["debitedMsat"] == 3
