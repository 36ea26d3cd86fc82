"""OpenAPI operations of receipts."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..jobs.openapi import JOB_ID
from ..openapi.operation import AROUND, JOBS, SESSIONS, Operation, Parameter, json_answer
from ..sessions.openapi import CREDENTIAL_ERRORS, SESSION_ID
from . import schemas

_VERIFY: Final = (
    "A receipt is a JWS signed with Ed25519; the key is at `/.well-known/satmeter.json`. The same receipt has the same "
    "bytes each time. `satmeter receipt verify` checks it offline, and computes the price again."
)
JOB_RECEIPT: Final = Operation(
    id="getJobReceipt",
    tag=JOBS,
    summary="Get a job's receipt",
    description=f"What the work was charged, for any job that has ended and was paid for. {_VERIFY}",
    parameters=(JOB_ID,),
    answers=json_answer("The receipt.", schemas.SignedReceipt),
    errors=(Code.NOT_FOUND, Code.WRONG_STATE, Code.UNAVAILABLE),
)
REQUEST_RECEIPT: Final = Operation(
    id="getRequestReceipt",
    tag=SESSIONS,
    summary="Get a request's receipt",
    description=f"What a request was charged, by the `requestId` of its answer. {_VERIFY}",
    secured=True,
    parameters=(
        SESSION_ID,
        Parameter(
            "requestId",
            "path",
            "The request.",
            {"type": "string", "pattern": "^req_[A-Za-z0-9_-]{1,64}$"},
            required=True,
        ),
    ),
    answers=json_answer("The receipt.", schemas.SignedReceipt),
    errors=(*CREDENTIAL_ERRORS, Code.WRONG_STATE),
)
WELL_KNOWN: Final = Operation(
    id="getWellKnown",
    tag=AROUND,
    summary="See what this server is, and its receipts' key",
    description="Save it: receipts are verified with it offline. The keys are a JSON Web Key Set.",
    answers=json_answer("The description.", schemas.WellKnown),
)
