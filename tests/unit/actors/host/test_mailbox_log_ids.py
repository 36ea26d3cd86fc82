"""Ids in the log: what a host does for a request has the request's id, from its call to the model and the journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import structlog
from redis.asyncio import Redis
from structlog.testing import LogCapture

from satmeter.actors.domain.job.state import CreateJob
from satmeter.actors.domain.payments.invoices import Invoice
from satmeter.actors.ports import Evaluation, InvoiceOrder
from satmeter.config.log_context import STEPS, add_context, log_as
from tests.helpers.fakes import FakeLightning, FakeModel
from tests.helpers.hosts import World
from tests.helpers.session_steps import SES, answered, ask, opened

JOB = "job_0123456789abcdefghijklmnopqrstuv"


def ids() -> dict[str, str]:
    return dict(add_context(None, "info", {}))


@dataclass
class Model(FakeModel):
    """A model that notes for which request it is called."""

    seen: list[dict[str, str]] = field(default_factory=list)

    async def evaluate(self, request: str, *, model: str = "") -> Evaluation:
        self.seen.append(ids())
        return await super().evaluate(request, model=model)


@dataclass
class Node(FakeLightning):
    """A node that notes for which request it is called."""

    seen: list[dict[str, str]] = field(default_factory=list)

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        self.seen.append(ids())
        return await super().create_invoice(order)


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """All entries, with the ids of the work that they are about, and with the steps that went well."""
    capture, steps = LogCapture(), logging.getLogger(STEPS)
    structlog.configure(processors=[add_context, capture])
    steps.setLevel(logging.INFO)
    yield capture
    steps.setLevel(logging.NOTSET)
    structlog.reset_defaults()


async def test_each_request_is_followed_from_its_call_to_the_model_and_the_journal(
    redis: Redis, log: LogCapture
) -> None:
    world = World(redis, model=(model := Model()), lightning=(node := Node()))

    async with world.serving() as (_, router):

        async def request(number: int) -> None:
            log_as(f"req_{number}")
            await answered(router, ask(number))

        log_as("req_0")
        await opened(router)
        await asyncio.gather(*(asyncio.create_task(request(number)) for number in (1, 2, 3)))
        log_as("req_9")
        await router.call(JOB, CreateJob("write a haiku", "client"))
    both = {"request_id": "req_0", "actor_id": SES}
    assert node.seen == [both, {"request_id": "req_9", "actor_id": JOB}]
    assert sorted(seen["request_id"] for seen in model.seen) == ["req_1", "req_2", "req_3"]
    assert {seen["actor_id"] for seen in model.seen} == {SES}
    for number in (1, 2, 3):
        steps = [entry for entry in log.entries if entry.get("request_id") == f"req_{number}"]
        assert [(step["event"], step.get("events") or step.get("intent")) for step in steps] == [
            ("journal_written", ["hold_placed"]),
            ("effect_done", "AnswerRequest"),
            ("journal_written", ["request_finished"]),
        ]
        assert all(step["actor_id"] == SES and step["ms"] >= 0 for step in steps)


async def test_a_store_that_does_not_answer_is_told_with_all_requests_that_wait(redis: Redis, log: LogCapture) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        await opened(router)
        world.journal.lose_before_writing = 1

        async def request(number: int) -> None:
            log_as(f"req_{number}")
            await answered(router, ask(number))

        await asyncio.gather(*(asyncio.create_task(request(number)) for number in (1, 2)))
    (told,) = [entry for entry in log.entries if entry["event"] == "store_not_confirming"]
    assert told["request_ids"] == ["req_1", "req_2"] and told["request_id"] in told["request_ids"]
