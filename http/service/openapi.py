"""OpenAPI operations of the service itself: demo, prices, health and the document."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from .. import schema
from ..openapi.operation import AROUND, BODY_ERRORS, DEVELOPMENT, HTML, JSON, Answer, Operation, Parameter, json_answer
from . import schemas as around

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
            {"type": "string", "minLength": 1, "maxLength": around.DEMO_CHARS_MAX, "pattern": r"\S"},
            required=True,
        ),
    ),
    answers=json_answer("The answer.", around.DemoResult),
    errors=(Code.INVALID_REQUEST, Code.RATE_LIMITED, Code.MODEL_FAILED, Code.UNAVAILABLE, Code.OVERLOADED),
)
PRICING: Final = Operation(
    id="getPricing",
    tag=AROUND,
    summary="See all prices",
    description="Rates of the models, infrastructure, margin, and the exchange rate with its source and age.",
    answers=json_answer("The prices.", around.Pricing),
)
HEALTH: Final = Operation(
    id="getHealth",
    tag=AROUND,
    summary="Ask whether the process answers",
    description="Nothing else is asked.",
    answers=json_answer("It does.", around.Health),
)
READY: Final = Operation(
    id="getReadiness",
    tag=AROUND,
    summary="Ask whether everything can be reached",
    description="Asks the store, the actors and the Lightning node; a 503 names those that can't be reached, and the "
    "model while its last calls failed.",
    parameters=(
        Parameter(
            "exclude",
            "query",
            "A part that does not matter to the caller, once for each: a load balancer does without the `model`, so "
            "that refunds and look-ups go on while it is away.",
            {"type": "array", "items": {"type": "string", "enum": ["store", "actors", "lightning", "model"]}},
        ),
    ),
    answers=json_answer("It can.", around.Ready),
    errors=(Code.INVALID_REQUEST, Code.UNAVAILABLE),
)
METRICS: Final = Operation(
    id="getMetrics",
    tag=AROUND,
    summary="Read the metrics",
    description="For the operator, with `OPERATOR_TOKEN` as bearer: in Prometheus's text format, or OpenMetrics' for "
    "those who accept it.",
    answers=(Answer(200, "The metrics.", {"text/plain": None, "application/openmetrics-text": None}),),
    errors=(Code.MISSING_CREDENTIAL, Code.INVALID_CREDENTIAL, Code.UNAVAILABLE),
    operators=True,
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
    description="For people: deposit, chat, and take the rest back, in a browser and with a wallet.",
    answers=(Answer(200, "The page.", {HTML: None}),),
)
ASSET: Final = Operation(
    id="getAsset",
    tag=AROUND,
    summary="A file of the pages",
    description="A style sheet or script. Its address changes with its content, so it is kept for good.",
    parameters=(
        Parameter("digest", "path", "Of all files.", {"type": "string"}, required=True),
        Parameter("name", "path", "The file.", {"type": "string"}, required=True),
    ),
    answers=(Answer(200, "The file.", {"text/css": None, "text/javascript": None}),),
    errors=(Code.NOT_FOUND,),
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
    answers=json_answer("It counts as paid.", around.Paid),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
MAKE_STUB_INVOICE: Final = Operation(
    id="makeStubInvoice",
    tag=DEVELOPMENT,
    summary="Have an invoice to be paid out to",
    description="Makes an invoice of a wallet of yours at the stub node, to try out refunds with. No money moves.",
    body=around.StubAmount,
    answers=json_answer("The invoice.", schema.Invoice, 201),
    errors=(*BODY_ERRORS, Code.UNAVAILABLE),
)
