"""Refusals of the provider and broken connections: whose fault it is, and what wait they ask for."""

from __future__ import annotations

import httpx2
import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.ports import ModelError, PermanentError, TransientError
from tests.unit.actors.adapters.anthropic.test_client import error_answer, failure_of, raising


@pytest.mark.parametrize("status", [408, 409])
async def test_a_passing_status_is_transient(status: int) -> None:
    assert isinstance(await failure_of(error_answer(status)), TransientError)


@pytest.mark.parametrize(
    ("statuses", "fault"),
    [
        ([429], ModelFault.LIMITED),
        ([529], ModelFault.OVERLOADED),
        ([502, 503, 521, 522, 523, 530], ModelFault.UNAVAILABLE),
        ([500, 501, 504, 520, 524, 599], ModelFault.FAILING),
        ([401, 402, 403], ModelFault.REFUSED),
    ],
)
async def test_a_status_says_whose_fault_it_is(statuses: list[int], fault: ModelFault) -> None:
    for status in statuses:
        failure = await failure_of(error_answer(status))
        assert isinstance(failure, ModelError) and failure.fault is fault


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_a_refusing_status_is_permanent(status: int) -> None:
    assert isinstance(await failure_of(error_answer(status)), PermanentError)


async def test_the_provider_can_call_a_refusal_passing() -> None:
    assert isinstance(await failure_of(error_answer(400, **{"x-should-retry": "true"})), TransientError)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_what_only_the_operator_can_mend_is_logged_as_an_error(status: int) -> None:
    with capture_logs() as logs:
        await failure_of(error_answer(status))
    (entry,) = logs
    assert (entry["log_level"], entry["status"]) == ("error", status)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "999999999"}, 3_600.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 3_600.0),
        ({"retry-after": "Wed, 99 Oct 2099 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
async def test_the_wait_that_the_provider_asks_for_is_passed_on(headers: dict[str, str], wait_s: float | None) -> None:
    failure = await failure_of(error_answer(429, **headers))
    assert isinstance(failure, TransientError)
    assert failure.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (httpx2.ConnectError("refused"), ModelFault.UNREACHABLE),
        (httpx2.ConnectTimeout("slow"), ModelFault.UNREACHABLE),
        (httpx2.ProxyError("no"), ModelFault.UNREACHABLE),
        (httpx2.WriteTimeout("slow"), ModelFault.FAILING),
        (httpx2.ReadError("reset"), ModelFault.FAILING),
        (httpx2.RemoteProtocolError("rubbish"), ModelFault.FAILING),
        (OSError("broken"), ModelFault.FAILING),
    ],
)
async def test_what_was_never_sent_is_told_from_what_was_not_answered(error: Exception, fault: ModelFault) -> None:
    failure = await failure_of(raising(error))
    assert isinstance(failure, ModelError) and failure.fault is fault


async def test_what_is_our_own_fault_is_transient_and_no_fault_of_the_model() -> None:
    assert type(await failure_of(raising(RuntimeError("a bug in the library")))) is TransientError
