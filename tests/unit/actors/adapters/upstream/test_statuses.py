"""Statuses of upstreams, and the waits that they ask for."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.upstream.statuses import fault_of, retry_after_s, status_error
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.ports import MissingModelError, ModelError, PermanentError, PortError, TransientError


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ModelError),
        (402, ModelError),
        (403, ModelError),
        (429, ModelError),
        (500, ModelError),
        (503, ModelError),
        (529, ModelError),
        (404, MissingModelError),
        (408, TransientError),
        (409, TransientError),
        (302, TransientError),
        (418, PermanentError),
    ],
)
def test_the_error_of_a_status(status: int, error: type[PortError]) -> None:
    found = status_error("told", status, {"retry-after": "3"}, fault_of(status))
    assert type(found) is error and str(found) == "told"
    assert not isinstance(found, ModelError) or (found.answered and found.retry_after_s == 3)


def test_faults() -> None:
    assert [fault_of(status) for status in (400, 404, 429, 529, 502, 504)] == [
        None,
        None,
        ModelFault.LIMITED,
        ModelFault.OVERLOADED,
        ModelFault.UNAVAILABLE,
        ModelFault.FAILING,
    ]


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "", "x", "Wed, 99 Oct 2026"])
def test_an_unreadable_wait_is_none(value: str) -> None:
    assert retry_after_s({"retry-after": value, "retry-after-ms": value}) is None


def test_a_date_that_is_past_is_no_wait() -> None:
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) is None


@pytest.mark.parametrize("status", [504, 524])
def test_a_gateway_that_did_not_wait_does_not_say_that_nothing_was_done(status: int) -> None:
    """So no other upstream is asked: the first one may still work on the call, and bill it."""
    error = status_error("x", status, {}, fault_of(status))
    assert isinstance(error, ModelError) and error.fault is ModelFault.FAILING and not error.answered
