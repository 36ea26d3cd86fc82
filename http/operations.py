"""What the OpenAPI document says of each operation. `app.py` ties every one of them to its route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from ..actors.domain.errors import Code
from . import schemas, sse

JSON: Final = "application/json"
HTML: Final = "text/html"

JOBS: Final = "Jobs"
AROUND: Final = "Around it"
DEVELOPMENT: Final = "Development"
TAGS: Final[Mapping[str, str]] = {
    JOBS: "Pay per piece of work: a small fee to have a request evaluated, then a price for the work. "
    "A payment moves a job on by itself, within two seconds; nobody needs to poll.",
    AROUND: "The free demo, prices, health, and this document.",
    DEVELOPMENT: "Exists only with the stub node, and never in production.",
}

WHEN: Final[Mapping[Code, str]] = {
    Code.INVALID_REQUEST: "The body, query or a header does not fit; `fields` says where.",
    Code.NOT_FOUND: "There is no such thing.",
    Code.IDEMPOTENCY_CONFLICT: "The Idempotency-Key was used with another body.",
    Code.BODY_TOO_LARGE: "The body is over the limit, 1 MiB unless the operator chose another.",
    Code.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON.",
    Code.RATE_LIMITED: "Too much from one address; `Retry-After` says when it fits again.",
    Code.MODEL_FAILED: "The model provider failed for good; nothing was charged for it.",
    Code.UNAVAILABLE: "Store, Lightning node or actors can't be reached; nothing was charged.",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query or a header."""

    name: str
    place: str
    description: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer. `content` has a model for JSON, None for a text that no schema describes."""

    status: int
    description: str
    content: Mapping[str, type[BaseModel] | None]
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it does, takes and gives, and how it refuses."""

    id: str
    tag: str
    summary: str
    description: str
    answers: tuple[Answer, ...]
    errors: tuple[Code, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None


def _json(description: str, model: type[BaseModel]) -> tuple[Answer]:
    return (Answer(200, description, {JSON: model}),)


_JOB_ID: Final = Parameter(
    "jobId", "path", "The job.", {"type": "string", "pattern": "^job_[A-Za-z0-9_-]{32}$"}, required=True
)

CREATE_JOB: Final = Operation(
    id="createJob",
    tag=JOBS,
    summary="Open a job",
    description="Answers with the invoice of the evaluation. Pay it, and the request is evaluated.",
    body=schemas.NewJob,
    parameters=(
        Parameter(
            "Idempotency-Key",
            "header",
            "Makes it safe to send this again: the same key and body give the same job and the same answer, for at "
            "least 24 hours, also after a crash.",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        ),
    ),
    answers=(
        Answer(201, "The job. Its fee is kept if the request is rejected.", {JSON: schemas.JobCreated}, ("Location",)),
    ),
    errors=(
        Code.INVALID_REQUEST,
        Code.IDEMPOTENCY_CONFLICT,
        Code.BODY_TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.RATE_LIMITED,
        Code.UNAVAILABLE,
    ),
)
SHOW_JOB: Final = Operation(
    id="getJob",
    tag=JOBS,
    summary="Look at a job",
    description="`awaiting_eval_payment → evaluating → awaiting_work_payment → executing → complete`; or `rejected` "
    "with its `reason`, `failed` with its `errorMessage`, `expired` when an invoice was not paid in time.",
    parameters=(_JOB_ID,),
    answers=_json("The job as it is now.", schemas.JobStatus),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
WATCH_JOB: Final = Operation(
    id="watchJob",
    tag=JOBS,
    summary="Follow a job",
    description="Server-sent events: `event: state`, whose data is the JobStatus, one now and one for each change. "
    "The stream ends after a final state; if it ends before, connect again. `event: error` carries an error.",
    parameters=(
        _JOB_ID,
        Parameter(
            "Last-Event-ID",
            "header",
            "Sent by browsers when they connect again; if it is the final state's, the answer is 204.",
            {"type": "string"},
        ),
    ),
    answers=(
        Answer(200, "The events.", {sse.MEDIA_TYPE: None}),
        Answer(204, "The last event that you saw is final: there are no more.", {}),
    ),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
DEMO: Final = Operation(
    id="askDemo",
    tag=AROUND,
    summary="Ask for free",
    description="One small question to the model, a few times an hour for one address.",
    parameters=(
        Parameter(
            "request",
            "query",
            "The question.",
            {"type": "string", "minLength": 1, "maxLength": schemas.DEMO_CHARS_MAX, "pattern": r"\S"},
            required=True,
        ),
    ),
    answers=_json("The answer.", schemas.DemoResult),
    errors=(Code.INVALID_REQUEST, Code.RATE_LIMITED, Code.MODEL_FAILED, Code.UNAVAILABLE),
)
PRICING: Final = Operation(
    id="getPricing",
    tag=AROUND,
    summary="See all prices",
    description="Rates of the models, infrastructure, margin, and the exchange rate with its source and age.",
    answers=_json("The prices.", schemas.Pricing),
)
HEALTH: Final = Operation(
    id="getHealth",
    tag=AROUND,
    summary="Ask whether the process answers",
    description="Nothing else is asked.",
    answers=_json("It does.", schemas.Health),
)
READY: Final = Operation(
    id="getReadiness",
    tag=AROUND,
    summary="Ask whether everything can be reached",
    description="Asks the store, the actors and the Lightning node; a 503 names those that can't be reached.",
    answers=_json("It can.", schemas.Ready),
    errors=(Code.UNAVAILABLE,),
)
METRICS: Final = Operation(
    id="getMetrics",
    tag=AROUND,
    summary="Read the metrics",
    description="In Prometheus's text format, or OpenMetrics' for those who accept it.",
    answers=(Answer(200, "The metrics.", {"text/plain": None, "application/openmetrics-text": None}),),
)
DOCUMENT: Final = Operation(
    id="getOpenApi",
    tag=AROUND,
    summary="Read this document",
    description="OpenAPI 3.1.",
    answers=(Answer(200, "The document.", {JSON: None}),),
)
DOCS: Final = Operation(
    id="getDocs",
    tag=AROUND,
    summary="Read this document as a page",
    description="Loads nothing from elsewhere, and needs no script.",
    answers=(Answer(200, "The page.", {HTML: None}),),
)
HOME: Final = Operation(
    id="getHome",
    tag=AROUND,
    summary="The first page",
    description="What this server is, and how to begin.",
    answers=(Answer(200, "The page.", {HTML: None}),),
)
PAY_STUB: Final = Operation(
    id="payStubInvoice",
    tag=DEVELOPMENT,
    summary="Pay an invoice of the stub node",
    description="Marks it paid, as a wallet would. No money moves.",
    parameters=(
        Parameter(
            "paymentHash",
            "path",
            "The invoice's.",
            {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            required=True,
        ),
    ),
    answers=_json("It counts as paid.", schemas.Paid),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
