"""Faults of the password, and of the phoenixd that it is for."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.lightning.http_exchange import Answer
from satmeter.actors.adapters.phoenixd.access import Trouble, trouble_of
from satmeter.actors.ports import TransientError


def answer(status: int, body: bytes = b"") -> Answer:
    return Answer(status, body, None)


INFO = answer(200, b'{"channels": [], "version": "0.8.0-de6f8ae"}')
NO_INVOICE = answer(400, b"Request parameter invoice couldn't be parsed/converted to bolt11invoice")


@pytest.mark.parametrize(
    ("info", "order", "expected"),
    [
        (INFO, NO_INVOICE, None),
        (answer(401), answer(401), Trouble.UNKNOWN),
        (INFO, answer(401), Trouble.LIMITED),
        (answer(200, b'{"channels": [], "version": "0.4.2-24b817a"}'), NO_INVOICE, Trouble.TOO_OLD),
        (answer(200, b'{"channels": [{"state": "Offline", "inboundLiquiditySat": null}]}'), NO_INVOICE, None),
    ],
)
def test_the_answers_tell_the_fault(info: Answer, order: Answer, expected: Trouble | None) -> None:
    assert trouble_of(info, order) is expected


@pytest.mark.parametrize(
    ("info", "order"), [(answer(502), NO_INVOICE), (answer(200, b"<html>"), NO_INVOICE), (INFO, answer(502))]
)
def test_a_node_that_is_away_has_no_fault(info: Answer, order: Answer) -> None:
    with pytest.raises(TransientError):
        trouble_of(info, order)
