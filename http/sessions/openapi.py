"""OpenAPI operations of sessions."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..openapi.operation import (
    BODY_ERRORS,
    JSON,
    SESSIONS,
    SPENDER,
    Answer,
    Operation,
    Parameter,
    idempotent,
    json_answer,
)
from ..payments.schemas import RefundDestination
from ..response import sse
from . import schemas

SESSION_ID: Final = Parameter(
    "sessionId", "path", "The session.", {"type": "string", "pattern": "^ses_[A-Za-z0-9_-]{32}$"}, required=True
)
CREDENTIAL_ERRORS: Final = (
    Code.MISSING_CREDENTIAL,
    Code.INVALID_CREDENTIAL,
    Code.CAVEAT_VIOLATED,
    Code.NOT_FOUND,
    Code.UNAVAILABLE,
)

# The bodies have the operator's bounds, which `app.py` sets.
OPEN_SESSION: Final = Operation(
    id="openSession",
    tag=SESSIONS,
    summary="Open a session",
    description="Answers with the invoice of the deposit and with the macaroon, which works as soon as it is paid. "
    "With a `webhook`, `session.low_balance` is sent there when the balance has fallen under `lowBalanceSats`, and "
    "again only after it rose above; and `session.limit_nearly_spent` when 80 % of a macaroon's `max_msat`, or of a "
    "window of its `max_msat_per`, are spent. With `refundTo`, what is left when the session is closed or expires is "
    "paid there by itself, and the webhook is sent `refund.paid`, or `refund.failed` with the reason.",
    body=schemas.Opening,
    parameters=(idempotent("the same session and the same answer"),),
    answers=(Answer(201, "The session.", {JSON: schemas.SessionOpened}, ("Location",)),),
    errors=(*BODY_ERRORS, Code.IDEMPOTENCY_CONFLICT, Code.RATE_LIMITED, Code.UNAVAILABLE),
)
TOP_UP: Final = Operation(
    id="topUpSession",
    tag=SESSIONS,
    summary="Add to the balance",
    description="Answers with a further invoice. Each payment also renews the session's time.",
    secured=True,
    body=schemas.Amount,
    parameters=(SESSION_ID, idempotent("the same invoice")),
    answers=json_answer("The invoice.", schemas.TopUpOpened, 201),
    errors=(
        *BODY_ERRORS,
        *CREDENTIAL_ERRORS,
        Code.PAYMENT_REQUIRED,
        Code.IDEMPOTENCY_CONFLICT,
        Code.EXPIRED,
        Code.CLOSED,
        Code.RATE_LIMITED,
    ),
)
SHOW_SESSION: Final = Operation(
    id="getSession",
    tag=SESSIONS,
    summary="Look at a session",
    description="Its balance and where everything that was deposited is, and the invoices that can still be paid.",
    secured=True,
    parameters=(SESSION_ID,),
    answers=json_answer("The session as it is now.", schemas.SessionStatus),
    errors=CREDENTIAL_ERRORS,
)
ASK_IN_SESSION: Final = Operation(
    id="askInSession",
    tag=SESSIONS,
    summary="Have a request answered",
    description="Before any model call the most that it can cost is put on hold; after it the actual cost is debited "
    "and the rest released. `maxTokens` is lowered to what the balance covers, and the answer says to what.\n\n"
    'With `"stream": true` the answer is server-sent events: `event: delta` with `{"text"}` for each piece of the '
    "answer, then one `event: done` with the RequestResult, or `event: error` with an Error. While the model is "
    "silent, comments come every few seconds. A whole answer that takes longer than that begins with line breaks; if "
    "it fails then, the connection is cut behind the error, and nothing was charged unless that says `inDoubt`.\n\n"
    "A request that the model refuses without a word is `rejected`, and costs its evaluation alone; what fails before "
    "anything was given costs nothing; a stream that breaks off costs what was given, and its `error` says how much. "
    "A client that goes away stops the model, and pays for what was used until then: for the prompt at least. With an "
    "`Idempotency-Key` a whole answer goes on, and is there for the same key.",
    secured=True,
    body=schemas.NewRequest,
    parameters=(SESSION_ID, idempotent("one charge and the same answer"), SPENDER),
    answers=(Answer(200, "The answer, or why it was rejected.", {JSON: schemas.RequestResult, sse.MEDIA_TYPE: None}),),
    errors=(
        *BODY_ERRORS,
        *CREDENTIAL_ERRORS,
        Code.MODEL_NOT_FOUND,
        Code.INSUFFICIENT_BALANCE,
        Code.PAYMENT_REQUIRED,
        Code.IDEMPOTENCY_CONFLICT,
        Code.EXPIRED,
        Code.CLOSED,
        Code.RATE_LIMITED,
        Code.MODEL_FAILED,
        Code.OVERLOADED,
    ),
)
SHOW_LEDGER: Final = Operation(
    id="getLedger",
    tag=SESSIONS,
    summary="Read the ledger",
    description="Every movement of the balance, oldest first. For the next stretch, ask for those after the last "
    "`seq` that you have.",
    secured=True,
    parameters=(
        SESSION_ID,
        Parameter(
            "after", "query", "The last `seq` that you have.", {"type": "integer", "minimum": 0, "maximum": 10**15}
        ),
        Parameter(
            "limit",
            "query",
            f"How many entries at most; {schemas.LEDGER_LIMIT} unless you say.",
            {"type": "integer", "minimum": 1, "maximum": schemas.LEDGER_LIMIT_MAX},
        ),
    ),
    answers=json_answer("The entries.", schemas.Ledger),
    errors=(Code.INVALID_REQUEST, *CREDENTIAL_ERRORS),
)
NAME_DESTINATION: Final = Operation(
    id="nameRefundDestination",
    tag=SESSIONS,
    summary="Name where the rest is paid by itself",
    description="When the session is closed or expires, the server asks the destination for an invoice over "
    "`payableSats` and pays it, once. What can't be paid is tried again after 1, 2, 4 … minutes and then once a day; a "
    "destination that refuses is asked once a day; after 30 days it stays owed until an invoice or another destination "
    "comes. A payout that is under way goes on, and another destination gets the next one, a minute later at the "
    "earliest. Needs the action `close`, and a macaroon without a limit on amounts or time.",
    secured=True,
    body=RefundDestination,
    parameters=(SESSION_ID,),
    answers=json_answer("The session. Its `refund` shows the destination.", schemas.SessionStatus),
    errors=(*BODY_ERRORS, *CREDENTIAL_ERRORS, Code.RATE_LIMITED),
)
CLOSE: Final = Operation(
    id="closeSession",
    tag=SESSIONS,
    summary="Close a session and take back what is left",
    description="New requests are refused, those under way end and settle. What is left is owed and, with an invoice, "
    "paid out. A Lightning address or LNURL-pay code is asked for the invoice. Repeating it with another one re-points "
    "a payout that failed for certain, never one that may still succeed.",
    secured=True,
    body=schemas.CloseOrder,
    body_required=False,
    parameters=(SESSION_ID, idempotent("the same payout and the same answer")),
    answers=json_answer("The session. Its `refund` says what became of the payout.", schemas.SessionStatus),
    errors=(
        *BODY_ERRORS,
        *CREDENTIAL_ERRORS,
        Code.WRONG_STATE,
        Code.IDEMPOTENCY_CONFLICT,
        Code.REFUND_PENDING,
    ),
)
WITHDRAW: Final = Operation(
    id="withdrawSession",
    tag=SESSIONS,
    summary="Close a session and get a link for what is left",
    description="Closes the session, and gives an LNURL-withdraw link, which a phone scans to fetch what is owed. The "
    "link is a bearer token: it can take what this session owes and nothing else, by one payout at a time, and is good "
    "for as long as something is owed. It is the same each time.",
    secured=True,
    body=schemas.Nothing,
    body_required=False,
    parameters=(SESSION_ID, idempotent("the same link")),
    answers=json_answer("The session, with the link in `refund.withdraw`.", schemas.SessionStatus),
    errors=(*BODY_ERRORS, *CREDENTIAL_ERRORS, Code.IDEMPOTENCY_CONFLICT),
)
