"""Conversations with actors that a test plays."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any


class Played:
    """A conversation whose answers a generator gives. None is there in time, so that each is waited for by a task."""

    waits = False

    def __init__(self, answers: AsyncGenerator[Any, None]) -> None:
        self._answers = answers

    def __aiter__(self) -> Played:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._answers)

    async def within(self, longest_s: float) -> None:
        """See `Conversation`."""

    async def aclose(self) -> None:
        """See `Conversation`."""
        await self._answers.aclose()
