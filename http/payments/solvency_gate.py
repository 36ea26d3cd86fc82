"""Solvency gate, and model gate: no deposits while the wallet holds too little, no calls while the model is away."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Refusal, RefusedError, model_failed, wallet_short
from ...actors.domain.provider_faults import ModelFault
from ...actors.model_health.outage import ASK_BEFORE_SALES_S, ModelOutage, ModelWait
from ..state import AppState

# The time until the outcome of an outage's next try is known.
_TRIED_WITHIN_MS: Final = 1_000
# A client must not pay for a job that would have to wait for so long.
_LONG_WAIT_MS: Final = 60_000


async def refuse_deposits(state: AppState, *models: str) -> None:
    """Raise `RefusedError` while no deposits are taken. Existing sessions, jobs and refunds go on all the same.

    `models`: those that the work begins with at once.
    """
    standing = await state.solvency.current()
    if standing is not None and not standing.solvent:
        raise RefusedError(wallet_short())
    now_ms = state.now_ms()
    for model in models or (None,):
        word = await state.model.current(ASK_BEFORE_SALES_S, model)
        if (outage := word.closed(now_ms)) is not None:
            raise RefusedError(_away(outage, now_ms))
        wait = None if model is None else word.wait(model, now_ms)
        if wait is not None and wait.left_ms(now_ms) >= _LONG_WAIT_MS:
            raise RefusedError(_asked_to_wait(wait, now_ms))


async def refusal_of_calls(state: AppState, *models: str, waits: bool = True) -> Refusal | None:
    """Return the refusal while one of these models is not called, else None. Without `waits`, these don't count."""
    now_ms, asked = state.now_ms(), []
    for model in models:
        word = await state.model.current(model=model)
        if (outage := word.down(now_ms)) is not None:
            return _away(outage, now_ms)
        if waits and (wait := word.wait(model, now_ms)) is not None:
            asked.append(wait)
    return _asked_to_wait(max(asked, key=lambda wait: wait.until_ms), now_ms) if asked else None


async def refuse_calls(state: AppState, model: str, *, waits: bool = True) -> None:
    """Raise `RefusedError` while the model is not called; without `waits` only while its upstreams are away."""
    if (refusal := await refusal_of_calls(state, model, waits=waits)) is not None:
        raise RefusedError(refusal)


def _away(outage: ModelOutage, now_ms: int) -> Refusal:
    return model_failed(ModelFault.UNAVAILABLE, outage.left_ms(now_ms) + _TRIED_WITHIN_MS)


def _asked_to_wait(wait: ModelWait, now_ms: int) -> Refusal:
    return model_failed(wait.fault, wait.left_ms(now_ms))
