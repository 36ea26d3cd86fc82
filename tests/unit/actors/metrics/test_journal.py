"""Counts of a journal's writes."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.metrics.journal import JournalMetrics
from satmeter.actors.ports import Append, ConflictError, FencedError, TransientError


def append(actor_id: str, epoch: int, version: int = 0) -> Append:
    return Append(
        partition=7,
        epoch=epoch,
        actor_id=actor_id,
        expected_version=version,
        events=[b"{}"],
        snapshot=None,
        due_ms=None,
    )


async def test_writes_are_counted_by_batches_and_failures_by_kind(redis: Redis) -> None:
    registry = CollectorRegistry()
    journal = RedisJournal(redis, metrics=JournalMetrics(registry))
    epoch = (await journal.claim([7], "host-0"))[7]
    await asyncio.gather(*(journal.append(append(f"ses_{number}", epoch)) for number in range(5)))
    found = registry.get_sample_value
    assert found("satmeter_journal_batch_appends_sum") == 5
    assert found("satmeter_journal_batch_appends_count") == found("satmeter_journal_write_seconds_count")
    with pytest.raises(FencedError):
        await journal.append(append("ses_1", epoch - 1, 1))
    with pytest.raises(ConflictError):
        await journal.append(append("ses_1", epoch, 9))
    assert found("satmeter_journal_failures_total", {"error": "fenced"}) == 1
    assert found("satmeter_journal_failures_total", {"error": "conflict"}) == 1
    assert found("satmeter_journal_failures_total", {"error": "unconfirmed"}) == 0


def test_a_write_that_is_not_confirmed_counts_as_such() -> None:
    registry = CollectorRegistry()
    JournalMetrics(registry).failed(TransientError("gone"))
    assert registry.get_sample_value("satmeter_journal_failures_total", {"error": "unconfirmed"}) == 1
