"""Boards of a run's upstreams, in its store: each call of `adapters/redis/model_outage.py` in one step.

`tests/unit/actors/model_health/test_outage.py` holds it to the real ones.
"""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from ....actors.model_health.outage import ModelOutage, ModelWait, ModelWord
from .server import StoreAccess, Writes


class BoardData:
    """Data of one upstream's board, with the calls of `ModelBoard` without waiting."""

    def __init__(self) -> None:
        self.word = ModelWord()

    def swap(self, known: ModelOutage | None, new: ModelOutage | None) -> bool:
        """See `ModelBoard.swap`."""
        if self.word.outage != known:
            return False
        self.word = replace(self.word, outage=new, failures=0 if new is None else self.word.failures)
        return True

    def count_failure(self) -> int:
        """See `ModelBoard.count_failure`."""
        self.word = replace(self.word, failures=self.word.failures + 1)
        return self.word.failures

    def forget_failures(self) -> None:
        """See `ModelBoard.forget_failures`."""
        self.word = replace(self.word, failures=0)

    def tell_wait(self, model: str, wait: ModelWait) -> None:
        """See `ModelBoard.tell_wait`."""
        self.word = replace(self.word, waits={**self.word.waits, model: wait})


class SimulatedModelBoard:
    """`ModelBoard` in the simulated store."""

    def __init__(self, access: StoreAccess, data: BoardData) -> None:
        self._ask = access.ask
        self._data = data

    async def read(self) -> ModelWord:
        """See `ModelBoard`. Raises `TransientError`."""
        return await self._ask(lambda: self._data.word)

    async def swap(self, known: ModelOutage | None, new: ModelOutage | None) -> bool:
        """See `ModelBoard`. Raises `TransientError`."""
        return await self._ask(partial(self._data.swap, known, new), writes=Writes.KEYS)

    async def count_failure(self) -> int:
        """See `ModelBoard`. Raises `TransientError`."""
        return await self._ask(self._data.count_failure, writes=Writes.KEYS)

    async def forget_failures(self) -> None:
        """See `ModelBoard`. Raises `TransientError`."""
        await self._ask(self._data.forget_failures, writes=Writes.KEYS)

    async def tell_wait(self, model: str, wait: ModelWait) -> None:
        """See `ModelBoard`. Raises `TransientError`."""
        await self._ask(partial(self._data.tell_wait, model, wait), writes=Writes.KEYS)
