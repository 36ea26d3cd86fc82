"""A running server keeps to its document: each operation with credentials and real ids, and all that is wrong."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_openapi import EXISTING
from tests.fuzz.counts import cases
from tests.fuzz.document import examples, fuzz
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, served

TOKEN = "an operator's token of a test, long enough"
SEED = os.environ.get("FUZZ_SEED")
# Whether a prompt can be priced and whether an invoice fits what is owed is more than a schema can say.
LOOSE = ("createMessage", "countTokens", "createChatCompletion", "createResponse", "countInputTokens", "refundJob")
# Too long a request is a body that is too large.
TOO_LONG = ["400", "401", "403", "404", "405", "409", "413", "415"]
CONFIG: dict[str, Any] = {
    "seed": int(SEED or 402),
    "generation": {
        "max-examples": int(os.environ.get("FUZZ_EXAMPLES", "300")) // 100,
        "deterministic": SEED is None,
        "database": "none",
        "no-shrink": True,
    },
    "phases": {"stateful": {"enabled": False}},
    "request-timeout": 30,
    # Without a credential most operations give a challenge, which the other tests of the document look at.
    "checks": {"ignored_auth": {"enabled": False}, "use_after_free": {"enabled": False}},
    "operations": [
        {
            "include-operation-id": operation,
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404", "409"]},
                # OpenAI's clients send null for what is absent.
                "negative_data_rejection": {"expected-statuses": ["2xx", "400", "401", "404", "415"]},
            },
        }
        for operation in LOOSE
    ]
    + [
        {
            "include-operation-id": operation,
            "checks": {"negative_data_rejection": {"expected-statuses": TOO_LONG}},
        }
        for operation in ("createJob", "ask", "askInSession")
    ],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """A server with the stub node and the stub model."""
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as place,
        served(
            Path(place) / "data",
            OPERATOR_TOKEN=TOKEN,
            SATMETER_HOSTS="1",
            SATMETER_PUBLIC_URL="https://satmeter.example",
        ) as made,
    ):
        yield made


def test_everything_in_the_document_is_asked_for_and_answered_as_it_says(server: Served) -> None:
    found = fuzz(server.url, TOKEN, CONFIG)
    cases["requests_to_a_server"] += found.cases
    assert list(dict.fromkeys(text[:2_000] for text in found.wrong)) == []
    assert found.asked == {f"{method} {path}" for method, path in EXISTING} - {"GET /openapi.json"}
    assert not [key for key in found.statuses if key[1] >= 500]
    # Each operation has also succeeded, with the ids and credentials that it needs.
    succeeded = {label for label, status in found.statuses if 200 <= status < 300 and status != 204}
    assert found.asked - succeeded <= {"POST /jobs/{jobId}/refund"}


def test_every_example_of_a_body_is_taken(server: Served) -> None:
    statuses = examples(server.url, TOKEN)
    assert len(statuses) >= 10
    refunds = statuses.pop("refundJob")
    assert refunds in (200, 400, 409)
    assert {name: status for name, status in statuses.items() if not 200 <= status < 300} == {}
