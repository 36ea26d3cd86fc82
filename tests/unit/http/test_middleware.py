"""Logging of requests, and the ones that go wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from structlog.testing import capture_logs

from satmeter.actors.domain.errors import Code, Refusal, RefusedError
from satmeter.actors.model_health.outage import ModelUp
from satmeter.config.log_context import add_context, note_actor
from satmeter.config.settings import Settings
from satmeter.http.edge.gate import Gate
from satmeter.http.edge.limits import limits_of
from satmeter.http.edge.networks import UNKNOWN
from satmeter.http.metrics import Metrics
from satmeter.http.middleware import RequestMiddleware
from satmeter.http.request.body_room import BodyRoom
from tests.helpers.fakes import FakeSolvency

SECRETS = ("a-prompt", "a-credential", "a-job-id", "a-text-of-an-exception")


@pytest.fixture(autouse=True)
def _log_everything() -> Iterator[None]:
    logger = logging.getLogger("satmeter.http.middleware")
    logger.setLevel(logging.DEBUG)
    yield
    logger.setLevel(logging.NOTSET)


async def ask(handler: Any, method: str = "GET", *, logs_all: bool = False) -> tuple[list[dict[str, Any]], list[Any]]:
    """Send a request full of secrets; return the answer and the log."""
    middleware = RequestMiddleware(
        Router([Route("/jobs/{jobId}", handler)]),
        Metrics(FakeSolvency(), ModelUp(), lambda: 0),
        BodyRoom(lambda _: UNKNOWN, 1_048_576, 1_024),
        Gate(limits_of(Settings()), lambda _: UNKNOWN),
        logs_all=logs_all,
    )
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": "/jobs/a-job-id",
        "query_string": b"request=a-prompt",
        "headers": [(b"authorization", b"Bearer a-credential")],
    }
    with capture_logs(processors=[add_context]) as logs:
        await middleware(scope, receive, send)
    return sent, logs


async def fine(request: Request) -> Response:
    return Response("ok")


async def refused(request: Request) -> Response:
    note_actor("ses_1")
    raise RefusedError(Refusal(Code.CLOSED, "The session is closed."))


async def broken(request: Request) -> Response:
    raise KeyError("a-text-of-an-exception")


async def gone(request: Request) -> Response:
    raise ClientDisconnect


class BreaksOff(Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("a-text-of-an-exception")


async def cut_off(request: Request) -> Response:
    raise asyncio.CancelledError


async def breaks_off(request: Request) -> Response:
    return BreaksOff()


async def test_a_request_is_one_line_without_its_secrets() -> None:
    sent, logs = await ask(fine)
    (line,) = logs
    assert (line["log_level"], line["method"], line["route"], line["status"]) == ("debug", "GET", "/jobs/{jobId}", 200)
    assert (b"x-request-id", line["request_id"].encode()) in sent[0]["headers"]
    assert line["ms"] >= 0


async def test_nothing_is_built_for_a_line_that_nobody_reads() -> None:
    logging.getLogger("satmeter.http.middleware").setLevel(logging.INFO)
    _, logs = await ask(fine)
    assert logs == []
    _, logs = await ask(fine, "DELETE")
    assert [(line["log_level"], line["status"]) for line in logs] == [("info", 405)]


async def test_requests_that_went_well_are_told_where_the_operator_asks_for_them() -> None:
    logging.getLogger("satmeter.http.middleware").setLevel(logging.INFO)
    _, (line,) = await ask(fine, logs_all=True)
    assert (line["log_level"], line["event"], line["status"]) == ("info", "request_answered", 200)
    assert "code" not in line


async def test_a_refused_request_s_line_has_the_code_of_its_error_body_and_the_session() -> None:
    _, (line,) = await ask(refused)
    assert (line["status"], line["code"], line["actor_id"]) == (410, "closed", "ses_1")
    _, logs = await ask(broken)
    assert [entry.get("code") for entry in logs] == [None, "internal_error"]


@pytest.mark.parametrize("handler", [fine, broken, gone, breaks_off])
async def test_no_log_line_holds_a_prompt_a_credential_an_id_or_the_text_of_an_exception(handler: Any) -> None:
    _, logs = await ask(handler)
    assert logs
    assert not [secret for secret in SECRETS if secret in repr(logs)]


async def test_an_unforeseen_error_is_logged_by_type_and_place_under_the_id_of_its_answer() -> None:
    sent, logs = await ask(broken)
    error, line = logs
    assert (error["log_level"], error["error_type"]) == ("error", "KeyError")
    assert error["places"][-1].endswith(" broken")
    assert (line["log_level"], line["status"]) == ("warning", 500)
    assert sent[0]["status"] == 500
    assert error["request_id"].encode() in sent[1]["body"]


async def test_an_answer_that_broke_off_gets_no_second_one() -> None:
    sent, logs = await ask(breaks_off)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert logs[0]["error_type"] == "KeyError"


async def test_a_client_that_is_gone_gets_no_answer_and_is_no_error() -> None:
    sent, logs = await ask(gone)
    assert sent == []
    assert [(line["log_level"], line["status"]) for line in logs] == [("info", 499)]


async def test_who_still_waits_when_the_server_ends_is_told_to_ask_again() -> None:
    """uvicorn cancels what takes longer than its grace, and would answer 500 by itself."""
    sent, _ = await ask(cut_off)
    assert sent[0]["status"] == 503 and (b"retry-after", b"2") in sent[0]["headers"]
    assert b"Idempotency-Key" in sent[1]["body"]
