"""Base of all bodies, as pydantic models. JSON is camelCase.

Bodies are validated by these, answers are built of them, and the OpenAPI document is generated from them. A field that
does not apply is absent, never null.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from ..actors.domain.errors import Code, PaymentState, RetryAction
from ..actors.domain.payments.destinations import DestinationFault

REQUEST_CHARS_MAX = 100_000
NOT_BLANK = r"[^\s\u0085]"
"""Pattern of a text that is not only white space. It names the one character (NEL) that is some here, by Unicode, and
none by ECMA-262, by whose rules readers of the document take a pattern."""
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, in UTC.")]
Usd = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+$", description="US dollars, exact, as a decimal string.")]
Count = Annotated[int, Field(ge=0)]
PaymentHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PaymentRequest = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4_096,
        description="A BOLT11 invoice of yours over whole sats, valid for at least 30 more seconds: at most "
        "`payableSats` of `refund`, which is what is owed, less a reserve for the routing fees of the server's node. "
        "Or a Lightning address (`name@example.org`) or LNURL-pay code (`LNURL1…`, `lnurlp://…`), which is asked for "
        "such an invoice.",
    ),
]
# JSON numbers keep all digits of a decimal; only pydantic's own JSON would make it a string or a rounded float.
Percent = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0})]
Absent = SkipJsonSchema[None]
_RETRY_ACTION = (
    "What a program does next. `retry`: send the same again, nothing was charged. `retry_same_key`: send the same "
    "again with the same Idempotency-Key, as it is not known what was done. `pay`: pay the invoice in this body, and "
    "send the same again. `wait`: send the same again when Retry-After is over. `stop`: the same will fail again. "
    "`ask_a_person`: the holder or the server's operator must decide."
)
_PAYMENT_STATE = (
    "What became of the payment that this request relied on. `none`: there was none. `unused`: what was paid before is "
    "untouched. `in_flight`: a payment, hold or payout is under way, or it is not known how it ended. `settled`: "
    "something was charged or paid."
)


class Wire(BaseModel):
    """The base of all bodies: JSON in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


def _not_null(value: object) -> object:
    """Refuse null. Validators run only on fields that are present."""
    if value is None:
        raise PydanticCustomError("null", "Must not be null; leave it out instead")
    return value


NOT_NULL = BeforeValidator(_not_null)


def _whole(value: object) -> object:
    """Convert 5.0 to 5: JSON does not tell them apart, and some clients write integers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)


class Invoice(Wire):
    """A Lightning invoice over whole satoshis."""

    payment_request: Annotated[str, Field(description="BOLT11: what a wallet pays.")]
    payment_hash: PaymentHash
    amount_sats: Annotated[int, Field(ge=1)]
    expires_at: Timestamp
    pay_page: Annotated[
        str | Absent,
        Field(
            description="A page for a person with a phone: the invoice as a QR code, which says when it is paid. It "
            "reveals nothing else. Absolute where the operator has set the server's address. Of an invoice to this "
            "server."
        ),
    ] = None


class FieldError(Wire):
    """One thing that does not fit."""

    path: Annotated[str, Field(description="Where, with dots; empty for the whole body.")]
    message: str


class Advice(BaseModel):
    """The advice in every error, which the errors of other providers' protocols have beside their own fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    retry_action: Annotated[RetryAction, Field(alias="retryAction", description=_RETRY_ACTION)]
    payment_state: Annotated[PaymentState, Field(alias="paymentState", description=_PAYMENT_STATE)]


class Error(Advice):
    """Every error. Clients branch on `code`; further fields help to mend it."""

    model_config = ConfigDict(alias_generator=to_camel)

    error: Annotated[str, Field(description="One sentence for a person.")]
    code: Code | Literal["internal_error"]
    request_id: Annotated[str, Field(pattern="^req_[A-Za-z0-9_-]+$")]
    fields: Annotated[list[FieldError] | Absent, Field(description="With `invalid_request`.")] = None
    state: Annotated[str | Absent, Field(description="With `wrong_state`.")] = None
    unreachable: Annotated[list[str] | Absent, Field(description="With `unavailable`, from /readyz.")] = None
    in_doubt: Annotated[
        bool | Absent,
        Field(description="With `unavailable`, when something may have been charged: repeat it under its key only."),
    ] = None
    retry_after_seconds: Annotated[
        int | Absent, Field(description="As the Retry-After header, also in an answer that had begun before it failed.")
    ] = None
    limit_bytes: Annotated[int | Absent, Field(description="With `body_too_large`.")] = None
    limit_chars: Annotated[int | Absent, Field(description="With `body_too_large`, of a job's request.")] = None
    required_msat: Annotated[
        int | Absent,
        Field(
            description="With `insufficient_balance`, a caveat on spending, and `unavailable` if no invoice can be "
            "made for it now: what the smallest useful answer can cost."
        ),
    ] = None
    left_msat: Annotated[
        int | Absent, Field(description="With `caveat_violated`, for a caveat on spending: what it leaves.")
    ] = None
    prompt_tokens: Annotated[
        int | Absent, Field(description="With `invalid_request`, for a prompt that is too long: its tokens.")
    ] = None
    prompt_tokens_max: Annotated[
        int | Absent, Field(description="Beside it: the most tokens that the balance or the credential covers.")
    ] = None
    balance_msat: Annotated[
        int | Absent, Field(description="With `insufficient_balance`, and with `model_failed` of a stream.")
    ] = None
    debited_msat: Annotated[
        int | Absent, Field(description="With `model_failed` after the answer had begun: what it cost.")
    ] = None
    top_up_invoice: Annotated[
        Invoice | Absent, Field(description="With `insufficient_balance`: pay it, and the request fits.")
    ] = None
    deposit_invoice: Annotated[
        Invoice | Absent, Field(description="With `payment_required`: the deposit that was not paid yet.")
    ] = None
    pay_page: Annotated[
        str | Absent,
        Field(
            description="With an invoice to pay: the address of a page that shows it to a person, as its `payPage`. "
            "Also in the `Link` header, as `payment`."
        ),
    ] = None
    session_id: Annotated[
        str | Absent, Field(description="With `payment_required` of a challenge: the session that the deposit opens.")
    ] = None
    caveat: Annotated[str | Absent, Field(description="With `caveat_violated`: the one that forbids it.")] = None
    renews_at: Annotated[
        Timestamp | Absent,
        Field(description="With `caveat_violated`: when the budget renews that is used up, if waiting helps."),
    ] = None
    max_sats: Annotated[
        int | Absent,
        Field(description="With `invalid_request`: the most that can be paid out, or that the destination takes."),
    ] = None
    min_sats: Annotated[
        int | Absent, Field(description="With `invalid_request`: the least that the destination takes.")
    ] = None
    destination_fault: Annotated[
        DestinationFault | Absent,
        Field(description="With `invalid_request`: why nothing can be paid to a destination."),
    ] = None
