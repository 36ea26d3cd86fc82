"""Guard of calls to the store: an error of the library becomes the port's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from ...ports import TransientError


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise `TransientError` in place of what the store or its client raises."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise unanswered(error) from error


# The library declares its answers loosely: a call's result is what its caller says.
async def guarded(call: Any) -> Any:
    """Return the call's answer. Raises `TransientError`, after which a write may have been carried out or not."""
    with store_errors():
        return await call


def unanswered(error: Exception) -> TransientError:
    """Return the port's error for one of the store's."""
    return TransientError(f"the store did not answer: {error}")
