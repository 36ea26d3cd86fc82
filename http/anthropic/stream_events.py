"""Events of a stream of the Messages API that are this server's own."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import RefusedError
from ..request_facts import RequestFacts
from ..response import errors, sse
from ..response.error_formats import anthropic
from ..sessions import answer as results

# The API's own ping. The comment tells ours from the provider's, whose bytes have a digest.
PING: Final = b': keep-alive\nevent: ping\ndata: {"type": "ping"}\n\n'


def error_event(error: RefusedError, facts: RequestFacts) -> bytes:
    """Return the event of an error, which SDKs raise."""
    body = errors.body_of(error.refusal, facts)
    return sse.event("error", results.encode(anthropic(errors.status_of(error.refusal.code, anthropic), body)))
