"""Waits until something holds that needs no call to find out."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.hosts import until


async def soon(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)
