"""Whatever fits the OpenAPI document, and much that doesn't, gets an answer that keeps to it."""

from __future__ import annotations

import asyncio

import schemathesis
from redis.asyncio import Redis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from tests.api.test_openapi import EXISTING
from tests.helpers.http.fronts import api_over, listening

_CONFIG = {
    "seed": 402,
    "generation": {"max-examples": 25, "deterministic": True, "database": "none", "no-shrink": True},
    "phases": {"stateful": {"enabled": False}},
    "request-timeout": 10,
    # That a text is a Lightning invoice, signed and not expired, is more than a schema can say.
    "operations": [
        {
            "include-operation-id": "refundJob",
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404", "409"]}},
        },
        # Nor that the address of a webhook is a public one.
        *[
            {
                "include-operation-id": operation,
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "409", "429"]},
                    # Too long a job's request is a body that is too large.
                    "negative_data_rejection": {"expected-statuses": ["400", "413", "415", "429"]},
                },
            }
            for operation in ("createJob", "openSession")
        ],
        # Nor that a model exists; and a client without a credential gets the price.
        *[
            {
                "include-operation-id": operation,
                "checks": {"positive_data_acceptance": {"expected-statuses": ["400", "401", "402", "404", "429"]}},
            }
            for operation in (
                "ask",
                "createMessage",
                "countTokens",
                "createChatCompletion",
                "countInputTokens",
            )
        ],
        # Of this one the document has an example. OpenAI's clients send null for what is absent, which costs the same.
        {
            "include-operation-id": "createResponse",
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["400", "402", "404", "429"]},
                "negative_data_rejection": {"expected-statuses": ["400", "401", "402", "404", "415", "5xx"]},
            },
        },
    ],
}


def _run(url: str) -> tuple[set[str], list[str]]:
    """Operations that were asked, and everything that went wrong."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=SchemathesisConfig.from_dict(_CONFIG))
    asked: set[str] = set()
    wrong: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, FatalError):
            raise event.exception
        if isinstance(event, NonFatalError):
            wrong.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, ScenarioFinished):
            asked.update(node.value.operation.label for node in event.recorder.cases.values())
            for checks in event.recorder.checks.values():
                wrong += [f"{event.label}: {c.failure_info.failure}" for c in checks if c.failure_info is not None]
    return asked, wrong


# Each operation is asked some dozens of times.
async def test_the_server_keeps_to_its_own_document(redis: Redis) -> None:
    async with api_over(redis, rate_limits=False) as api, listening(api.app) as server:
        # Jobs that nobody pays are followed too: their streams must show one state and end.
        api.state.ending.set()
        asked, wrong = await asyncio.to_thread(_run, server.url)
    assert list(dict.fromkeys(wrong)) == []
    # The document itself is where all this is read from.
    assert asked == {f"{method} {path}" for method, path in EXISTING} - {"GET /openapi.json"}
