"""Traces by OpenTelemetry, where a collector is configured: spans from a request to journal, model and node.

Otherwise nothing of it is imported, and a span costs a comparison. No span has a prompt, a credential or an actor's id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import structlog

SERVICE: Final = "satmeter"
_NONE: Final[Mapping[str, str | int]] = {}
_PATH: Final = "/v1/traces"
# A context of the library without a span.
_EMPTY: Final[Any] = {}
_TRACEPARENT: Final = "traceparent"
_log = structlog.get_logger(__name__)
_tracing: _Tracing | None = None


class _Tracing:
    """The library, imported where traces are wanted. Raises `ImportError` where it is not installed."""

    def __init__(self, process: str, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
        provider = TracerProvider(resource=Resource.create({**name, "satmeter.process": process}))
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self.provider = provider
        self._tracer = provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()
        self._link, self._kinds, self._statuses, self._span_in = Link, SpanKind, StatusCode, get_current_span

    def begin(self, name: str, parent: str, linked: str) -> Any:
        """Begin a span: of a request where there is no parent, else of what is done for one."""
        # Never a library's span that happens to be the current one.
        context = self._propagator.extract({_TRACEPARENT: parent}, _EMPTY) if parent else _EMPTY
        links = []
        if linked:
            found = self._span_in(self._propagator.extract({_TRACEPARENT: linked}, _EMPTY)).get_span_context()
            links = [self._link(found)] if found.is_valid else []
        kind = self._kinds.CLIENT if parent else self._kinds.SERVER
        return self._tracer.start_span(name, context, kind, links=links)

    def traceparent(self, span: Any) -> str:
        """Return the span as a header names it, "" for one that is not sampled."""
        found = span.get_span_context()
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-01" if found.trace_flags.sampled else ""

    def fail(self, span: Any) -> None:
        """Mark a span as failed."""
        span.set_status(self._statuses.ERROR)


def start_tracing(process: str, endpoint: str | None) -> None:
    """Send the spans of this process to a collector, if there is one. `OTEL_SDK_DISABLED` is heeded."""
    global _tracing  # noqa: PLW0603 - one for each process, as with its logging
    if endpoint is None or _tracing is not None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        _tracing = _Tracing(process, endpoint)
    except ImportError as error:
        _log.warning("traces_not_installed", error=str(error), hint="pip install 'satmeter[traces]'")


def stop_tracing() -> None:
    """Send what there is, and trace no longer."""
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is not None:
        tracing.provider.shutdown()


def is_tracing() -> bool:
    """Return whether spans are sent, for what costs something to find out for one."""
    return _tracing is not None


def begin_request(name: str, linked: str = "") -> Any:
    """Begin the span of a request; None where nothing is traced.

    linked: the client's own span. It is only linked to: as a parent it would decide what is sampled here.
    """
    return None if _tracing is None else _tracing.begin(name, "", linked)


def begin_step(name: str, parent: str) -> Any:
    """Begin the span of what is done for a request; None where that is not traced."""
    return None if _tracing is None or not parent else _tracing.begin(name, parent, "")


def traceparent_of(span: Any) -> str:
    """Return the span as other processes name it; "" where there is none, or where it is not sampled."""
    return "" if _tracing is None or span is None else _tracing.traceparent(span)


def end_span(span: Any, *, failed: bool = False, name: str = "", facts: Mapping[str, str | int] = _NONE) -> None:
    """End a span, if there is one. `facts`: its attributes, which must not be ids of actors, nor secrets."""
    if span is None or _tracing is None:
        return
    if name:
        span.update_name(name)
    for key, value in facts.items():
        span.set_attribute(key, value)
    if failed:
        _tracing.fail(span)
    span.end()
