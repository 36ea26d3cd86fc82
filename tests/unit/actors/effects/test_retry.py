"""A call to the model is repeated only where it certainly did nothing: another one would be billed, too."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.retry import with_retries
from satmeter.actors.ports import HeldBackError, ModelError, PortError, SilentError, TransientError

DID_NOTHING = [
    ModelError("no connection", ModelFault.UNREACHABLE),
    ModelError("answered 500", ModelFault.FAILING, answered=True),
    ModelError("answered 529", ModelFault.OVERLOADED, 3, answered=True),
]
NOT_REPEATED = [
    ModelError("the connection broke", ModelFault.FAILING),
    ModelError("answered 504", ModelFault.FAILING),
    ModelError("broke, as an outage began", ModelFault.UNAVAILABLE, taken=True),
    TransientError("an unreadable verdict"),
    SilentError("fell silent"),
    HeldBackError("it is away", ModelFault.UNAVAILABLE, 1),
    ModelError("answered 401", ModelFault.REFUSED, answered=True),
    ModelError("answered 429", ModelFault.LIMITED, 60, answered=True),
]


async def calls_of(error: PortError, begun: bool = False) -> tuple[int, list[float]]:
    """Return how often a call is made that always fails so, and the pauses between."""
    calls, pauses = 0, []

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise error

    async def pause(time_s: float) -> None:
        pauses.append(time_s)

    with pytest.raises(type(error)) as caught:
        await with_retries(pause, call, lambda: begun)
    assert caught.value is error
    return calls, pauses


@pytest.mark.parametrize("error", DID_NOTHING, ids=str)
async def test_what_did_nothing_is_asked_for_three_times(error: ModelError) -> None:
    calls, pauses = await calls_of(error)
    assert calls == 3 and all(time_s >= (error.retry_after_s or 0.5) for time_s in pauses)
    assert await calls_of(error, begun=True) == (1, [])


@pytest.mark.parametrize("error", NOT_REPEATED, ids=str)
async def test_what_may_be_billed_or_lasts_is_asked_for_once(error: PortError) -> None:
    assert await calls_of(error) == (1, [])
