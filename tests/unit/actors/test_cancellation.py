"""Tasks end when they are told to, also those that miss it the first time."""

from __future__ import annotations

import asyncio

import pytest

from satmeter.actors.cancellation import cancel_and_wait
from tests.helpers.patience import PATIENCE_S


async def test_tasks_that_wait_fail_or_have_ended_are_all_ended() -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at the end")

    async def brief() -> None:
        return

    tasks = [asyncio.create_task(what) for what in (asyncio.Event().wait(), failing(), brief())]
    await asyncio.wait(tasks, timeout=0)
    await cancel_and_wait([None, *tasks])
    assert tasks[0].cancelled() and tasks[2].done()
    assert isinstance(tasks[1].exception(), ValueError)


async def test_a_cancellation_that_was_swallowed_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.cancellation._AGAIN_AFTER_S", 0.01)
    swallowed: list[bool] = []

    async def deaf_once() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(True)

    task = asyncio.create_task(deaf_once())
    await asyncio.wait({task}, timeout=0)
    async with asyncio.timeout(PATIENCE_S):
        await cancel_and_wait([task])
    assert task.cancelled() and swallowed
