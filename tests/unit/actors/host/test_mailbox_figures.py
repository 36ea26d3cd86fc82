"""Figures that break: neither sums nor metrics keep money from being booked, or an answer from its client."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.llm.catalogue import Catalogue
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.metrics.host import HostMetrics
from tests.helpers.hosts import World
from tests.helpers.jobs import TERMS
from tests.helpers.session_steps import answered, ask, opened, show


def _break(*_: Any) -> None:
    raise ValueError("a figure that can't be told")


async def _spend(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        debit_msat = (await answered(router, ask())).cost.debit_msat
        assert debit_msat and (await show(router)).spent_msat == debit_msat


async def test_sums_that_break_keep_no_payment_out_of_its_journal(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SessionBehaviour, "sums", _break)
    await _spend(World(redis))


@pytest.mark.parametrize("part", ["events", "effects"])
async def test_metrics_that_break_end_no_turn(redis: Redis, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    metrics = HostMetrics(Catalogue((), ()), TERMS.models, "haiku")
    monkeypatch.setattr(getattr(metrics, part), {"events": "wrote", "effects": "ended"}[part], _break)
    await _spend(World(redis, metrics=metrics, dedicated=False))
