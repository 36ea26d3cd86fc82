"""Context of log entries: a request's ids go with its tasks, and with no others."""

from __future__ import annotations

import asyncio

import pytest

from satmeter.config.log_context import add_context, in_background, log_as, name_actor, note_actor, present_request_id


def ids() -> dict[str, str]:
    return dict(add_context(None, "info", {}))


async def test_tasks_of_a_request_have_its_ids_and_other_requests_their_own() -> None:
    found: dict[str, dict[str, str]] = {}

    async def answer(name: str) -> None:
        log_as(f"req_{name}")
        await asyncio.sleep(0)
        # The actor is learnt in a task of the request, and known in all of them.
        await asyncio.create_task(look_up(name))
        found[name] = ids()

    async def look_up(name: str) -> None:
        note_actor(f"ses_{name}")

    await asyncio.gather(answer("a"), answer("b"))
    assert found == {name: {"request_id": f"req_{name}", "actor_id": f"ses_{name}"} for name in "ab"}
    assert ids() == {}


async def test_work_that_many_share_does_not_keep_the_ids_of_the_one_that_began_it() -> None:
    async def work() -> tuple[dict[str, str], str]:
        return ids(), present_request_id()

    async def answer() -> tuple[dict[str, str], str]:
        log_as("req_1", "ses_1")
        return await in_background(work())

    assert await asyncio.create_task(answer()) == ({}, "")


async def test_an_actor_that_no_request_asks_for_is_noted_nowhere() -> None:
    note_actor("ses_1")
    assert ids() == {}


@pytest.mark.parametrize(
    ("actor_id", "named"),
    [("ses_1", {"session_id": "ses_1"}), ("job_1", {"job_id": "job_1"}), ("demo_1", {"actor_id": "demo_1"})],
)
def test_a_session_and_a_job_are_called_so(actor_id: str, named: dict[str, str]) -> None:
    assert name_actor(None, "info", {"event": "x", "actor_id": actor_id}) == {"event": "x", **named}
