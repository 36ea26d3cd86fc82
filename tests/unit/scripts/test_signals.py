"""Ctrl-C ends what runs, also what misses it the first time, and lets it clean up."""

from __future__ import annotations

import asyncio
import signal

import pytest

from satmeter.scripts.signals import run_until_interrupted
from tests.helpers.patience import PATIENCE_S


def test_ctrl_c_ends_work_that_swallows_the_first_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.cancellation._AGAIN_AFTER_S", 0.01)
    seen: list[str] = []

    async def deaf_once() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            while True:
                try:
                    await asyncio.wait_for(asyncio.Event().wait(), PATIENCE_S)
                except asyncio.CancelledError:
                    if seen:
                        raise
                    seen.append("swallowed")
        finally:
            seen.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted(deaf_once())
    assert seen == ["swallowed", "cleaned up"]


def test_without_it_the_result_comes_back_and_so_does_what_was_raised() -> None:
    async def works() -> int:
        return 7

    async def fails() -> int:
        raise ValueError("no")

    assert run_until_interrupted(works()) == 7
    with pytest.raises(ValueError, match="no"):
        run_until_interrupted(fails())
