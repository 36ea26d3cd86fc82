"""The mover goes on through failures of the store, and logs an outage once."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from satmeter.actors.ports import TransientError
from satmeter.actors.services.hourly_sums import SumsMover


async def test_it_moves_again_and_again_whatever_fails() -> None:
    answers: list[int | TransientError] = [1, TransientError("away"), TransientError("away"), 0, 2]
    times: list[int] = []

    async def move(now_ms: int) -> int:
        times.append(now_ms)
        answer = answers.pop(0)
        if isinstance(answer, TransientError):
            raise answer
        return answer

    async def pause(delay_s: float) -> None:
        assert delay_s == 60
        if not answers:
            raise asyncio.CancelledError

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await SumsMover(move, iter(range(100)).__next__, pause=pause).run()
    assert times == [0, 1, 2, 3, 4]
    assert [log["event"] for log in logs] == ["hourly_sums_lost", "hourly_sums_back"]
