"""Errors of the store's client, which become the port's."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from satmeter.actors.adapters.redis.guard import guarded, store_errors
from satmeter.actors.ports import FencedError, TransientError


@pytest.mark.parametrize("error", [ResponseError("LOADING"), TimeoutError("slow"), ConnectionResetError("gone")])
async def test_whatever_the_store_fails_with_may_pass(error: Exception) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(TransientError, match=str(error)) as caught:
        await guarded(call())
    assert caught.value.__cause__ is error


def test_an_error_of_ours_stays_what_it_is() -> None:
    with pytest.raises(FencedError), store_errors():
        raise FencedError(3)
