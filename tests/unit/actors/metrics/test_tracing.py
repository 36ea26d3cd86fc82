"""Traces, against a receiver that others wrote."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from satmeter.actors.metrics.tracing import (
    begin_request,
    begin_step,
    end_span,
    start_tracing,
    stop_tracing,
    traceparent_of,
)
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import free_port

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtelTapHttpProtobufReceiver]:
    port = free_port()
    async with OtelTapHttpProtobufReceiver(OtelTapHttpProtobufReceiverSettings(http_port=port)) as receiver:
        start_tracing("front", f"http://127.0.0.1:{port}")
        yield receiver
        await asyncio.to_thread(stop_tracing)


async def received(receiver: OtelTapHttpProtobufReceiver, *names: str) -> dict[str, Any]:
    waits = [receiver.await_trace(lambda span, name=name: span.name == name, PATIENCE_S) for name in names]  # type: ignore[misc]
    spans = asyncio.gather(*waits)
    await asyncio.sleep(0)
    await asyncio.to_thread(stop_tracing)
    return {span.name: span for span in await spans}


async def test_a_step_in_another_process_belongs_to_its_request(receiver: OtelTapHttpProtobufReceiver) -> None:
    request = begin_request("request")
    step = begin_step("answer", traceparent_of(request))
    end_span(step, failed=True)
    end_span(request, name="POST /ask", facts={"http.response.status_code": 200})
    spans = await received(receiver, "POST /ask", "answer")
    outer, inner = spans["POST /ask"], spans["answer"]
    assert inner.trace_id == outer.trace_id and inner.parent_span_id == outer.span_id
    assert (outer.kind, inner.kind) == (2, 3) and (outer.status.code, inner.status.code) == (0, 2)
    assert outer.parent_span_id == b""


async def test_a_client_s_span_is_linked_to_and_never_the_parent(receiver: OtelTapHttpProtobufReceiver) -> None:
    end_span(begin_request("request", CLIENT))
    (span,) = (await received(receiver, "request")).values()
    assert span.parent_span_id == b"" and span.trace_id.hex() != CLIENT[3:35]
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(CLIENT[3:35], CLIENT[36:52])]


async def test_what_is_not_sampled_is_not_traced_in_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    start_tracing("front", f"http://127.0.0.1:{free_port()}")
    try:
        request = begin_request("request", CLIENT)
        assert traceparent_of(request) == "" and begin_step("answer", "") is None
        end_span(request)
    finally:
        await asyncio.to_thread(stop_tracing)


def test_without_a_collector_nothing_is_traced_and_nothing_imported() -> None:
    code = (
        "import sys, satmeter.http.app, satmeter.actors.ray_actors, satmeter.actors.metrics.tracing as tracing\n"
        "tracing.start_tracing('front', None)\n"
        "span = tracing.begin_request('request')\n"
        "assert span is None and tracing.traceparent_of(span) == '' and tracing.begin_step('x', 'y') is None\n"
        "tracing.end_span(span)\n"
        "found = [name for name in sys.modules if name.startswith('opentelemetry.exporter.otlp')]\n"
        "assert found == [], found\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_disabled_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    start_tracing("front", "http://127.0.0.1:9")
    assert begin_request("request") is None
