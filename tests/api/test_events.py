"""A job's event stream, over real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import httpx
from msgspec.structs import replace as with_fields

from satmeter.actors.domain.errors import RefusedError, unavailable
from satmeter.actors.domain.job.state import GetJob, JobState, JobView
from satmeter.http.app import create_app
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, Json, client_of, listening
from tests.helpers.patience import PATIENCE_S

FLOW = ["awaiting_eval_payment", "evaluating", "awaiting_work_payment", "executing", "complete"]


class Event(NamedTuple):
    name: str
    identity: str
    data: Json


async def events_of(answer: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


async def test_a_whole_job_is_followed_state_by_state_until_the_stream_ends(api: Api) -> None:
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url, timeout=20) as http:
        job = await api.create()
        seen: list[Event] = []
        async with http.stream("GET", f"/jobs/{job['jobId']}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            async for event in events_of(answer):
                seen.append(event)
                if event.data["state"] == "awaiting_eval_payment":
                    await api.pay(event.data["evalInvoice"])
                if event.data["state"] == "awaiting_work_payment":
                    await api.pay(event.data["workInvoice"])
        states = [event.data["state"] for event in seen]
        assert list(dict.fromkeys(states)) == FLOW
        assert {event.name for event in seen} == {"state"}
        assert seen[-1].data == await api.show(job["jobId"])
        assert all(one.data != other.data for one, other in pairwise(seen))


async def test_a_final_job_shows_itself_once_and_the_stream_ends(api: Api) -> None:
    job = await api.complete()
    answer = await api.http.get(f"/jobs/{job['jobId']}/events")
    (event,) = [event async for event in events_of(answer)]
    assert event.data == job


async def test_a_browser_that_saw_the_final_state_is_told_not_to_come_again(api: Api) -> None:
    path = f"/jobs/{(await api.complete())['jobId']}/events"
    (event,) = [event async for event in events_of(await api.http.get(path))]
    again = await api.http.get(path, headers={"Last-Event-ID": event.identity})
    assert (again.status_code, again.content) == (204, b"")
    assert (await api.http.get(path, headers={"Last-Event-ID": "evaluating.1"})).status_code == 200


async def test_an_unknown_job_is_a_404_and_no_stream(api: Api) -> None:
    answer = await api.http.get(f"/jobs/job_{'a' * 32}/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/json"


async def test_head_opens_no_stream(api: Api) -> None:
    job = await api.create()
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url, timeout=5) as http:
        answer = await http.head(f"/jobs/{job['jobId']}/events")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (await http.head(f"/jobs/job_{'a' * 32}/events")).status_code == 404


async def test_a_client_that_goes_away_is_no_longer_served(api: Api) -> None:
    job = await api.create()
    watched = Watched(api)
    app = create_app(replace(api.state, router=watched))  # type: ignore[arg-type]
    async with listening(app) as server, httpx.AsyncClient(base_url=server.url, timeout=5) as http:
        async with http.stream("GET", f"/jobs/{job['jobId']}/events") as answer:
            await anext(events_of(answer))
            assert not watched.ended.is_set()
        async with asyncio.timeout(PATIENCE_S):
            await watched.ended.wait()


async def test_a_server_that_ends_ends_its_streams_at_once_and_cleanly(api: Api) -> None:
    job = await api.create()
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url, timeout=5) as http:
        async with http.stream("GET", f"/jobs/{job['jobId']}/events") as answer:
            events = events_of(answer)
            assert (await anext(events)).data["state"] == "awaiting_eval_payment"
            api.state.ending.set()
            server.server.should_exit = True
            # A connection that is cut off raises here instead.
            assert [event async for event in events] == []
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(server.task)


async def test_a_state_that_is_shown_again_by_another_host_is_not_repeated(api: Api) -> None:
    view = await some_view(api)
    evaluating = with_fields(view, state=JobState.EVALUATING)
    answer = await stream_of(api, [view, view, evaluating, evaluating, with_fields(view, state=JobState.EXPIRED)])
    assert [e.data["state"] async for e in events_of(answer)] == ["awaiting_eval_payment", "evaluating", "expired"]


async def test_a_host_that_is_lost_for_good_ends_the_stream_with_an_error(api: Api) -> None:
    answer = await stream_of(api, [await some_view(api)], RefusedError(unavailable("The actors' host")))
    first, last = [event async for event in events_of(answer)]
    assert (first.name, last.name) == ("state", "error")
    assert last.data["code"] == "unavailable"
    assert last.data["requestId"] == answer.headers["x-request-id"]


class Watched:
    """The router, and whether the stream that it gave has ended."""

    def __init__(self, api: Api) -> None:
        self._router = api.state.router
        self.ended = asyncio.Event()

    async def stream(self, actor_id: str, command: Any) -> AsyncGenerator[Any, None]:
        try:
            async with aclosing(self._router.stream(actor_id, command)) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self.ended.set()


async def some_view(api: Api) -> JobView:
    reply = await api.state.router.call((await api.create())["jobId"], GetJob())
    assert isinstance(reply, JobView)
    return reply


async def stream_of(api: Api, views: list[JobView], end: Exception | None = None) -> httpx.Response:
    """The answer when the actor says exactly this."""

    class Scripted:
        async def stream(self, actor_id: str, command: Any) -> AsyncGenerator[JobView, None]:
            for view in views:
                yield view
            if end is not None:
                raise end

    async with client_of(create_app(replace(api.state, router=Scripted()))) as http:  # type: ignore[arg-type]
        return await http.get(f"/jobs/{views[0].job_id}/events")


async def test_many_may_watch_one_job(api: Api) -> None:
    job = await api.create()
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url, timeout=20) as http:
        ends: list[str] = []

        async def watch() -> None:
            async with http.stream("GET", f"/jobs/{job['jobId']}/events") as answer:
                ends.extend([event.data["state"] async for event in events_of(answer)][-1:])

        watchers = [asyncio.create_task(watch()) for _ in range(3)]
        await api.pay(job["evalInvoice"])
        await api.pay((await api.job_in(job["jobId"], "awaiting_work_payment"))["workInvoice"])

        async def all_ended() -> bool:
            return all(watcher.done() for watcher in watchers)

        await until(all_ended)
        assert ends == ["complete"] * 3
