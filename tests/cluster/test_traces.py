"""Traces of a real server, at a receiver that others wrote: from the request to the journal, the model and the node."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from tests.helpers.cluster.sessions import session
from tests.helpers.hosts import until
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import free_port, served

SECRET = "a prompt that nobody else may read"
_ASKED = "POST /sessions/{sessionId}/request"


async def test_a_request_is_traced_from_the_front_to_the_journal_the_model_and_the_node(data_dir: Path) -> None:
    port = free_port()
    spans = Spans()
    async with OtelTapHttpProtobufReceiver(OtelTapHttpProtobufReceiverSettings(http_port=port)) as receiver:
        gathering = asyncio.create_task(spans.gather(receiver))
        seen = threading.Event()
        asking = asyncio.create_task(asyncio.to_thread(_ask_once, data_dir, port, seen))
        try:
            await until(spans.complete)
        finally:
            seen.set()
            secrets = await asking
            gathering.cancel()
    asked = spans.of(_ASKED)
    (request,) = (span for span in asked if span.name == _ASKED)
    assert {span.parent_span_id for span in asked if span is not request} == {request.span_id}
    told = {attribute.key: str(attribute.value) for attribute in request.attributes}
    assert told.keys() == {"http.request.method", "http.route", "http.response.status_code"}
    everything = b"".join(span.SerializeToString() for span in spans.all)
    assert [secret for secret in secrets if secret.encode() in everything] == []


class Spans:
    """All spans that the receiver has got."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    async def gather(self, receiver: OtelTapHttpProtobufReceiver) -> None:
        """Take the spans as they come."""
        async for span in receiver.stream_traces():
            self.all += [span]

    def of(self, name: str) -> list[Any]:
        """The spans of the first trace whose root has this name."""
        roots = [span.trace_id for span in self.all if span.name == name]
        return [span for span in self.all if roots and span.trace_id == roots[0]]

    async def complete(self) -> bool:
        """Return whether the last ones have come, of the request and of the session's opening."""
        names = {span.name for span in self.of(_ASKED)}, {span.name for span in self.of("POST /sessions")}
        return {"answer", "journal append"} <= names[0] and "issue_invoice" in names[1]


def _ask_once(data_dir: Path, port: int, seen: threading.Event) -> list[str]:
    """Ask once, and keep the server until its spans have come: a host that is ended takes its last ones along."""
    url = f"http://127.0.0.1:{port}"
    with (
        served(data_dir, SATMETER_HOSTS="1", OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="100") as server,
        session(server) as client,
    ):
        client.ask(SECRET)
        seen.wait(PATIENCE_S)
        return [SECRET, client.session_id, client.http.headers["authorization"].removeprefix("Bearer ")]
