"""OpenAPI operations and schema of the payment page."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from ...actors.domain.errors import Code
from ...actors.domain.payments.invoices import InvoicePurpose, InvoiceState
from ..lnurl.openapi import SVG
from ..openapi.operation import AROUND, HTML, Answer, Operation, Parameter, json_answer
from ..schema import Absent, Invoice, Wire


class InvoiceStatus(Wire):
    """An invoice as its page shows it to a stranger. `invoice` is there while it is `open`."""

    state: Annotated[InvoiceState, Field(description="An invoice that is `expired` is not to be paid any more.")]
    purpose: Annotated[InvoicePurpose, Field(description="What it is for.")]
    invoice: Invoice | Absent = None


_PAY_ID: Final = Parameter(
    "payId",
    "path",
    "The last part of an invoice's `payPage`. It is sealed, and shows no session and no job.",
    {"type": "string"},
    required=True,
)
PAY_PAGE: Final = Operation(
    id="showPayPage",
    tag=AROUND,
    summary="Show an invoice to a person",
    description="A page with one invoice of this server as a QR code, for a phone. It says by itself when the invoice "
    "is paid. A 402 has its address as `payPage` and in its `Link` header.",
    parameters=(_PAY_ID,),
    answers=(Answer(200, "The page.", {HTML: None}),),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
PAY_INVOICE: Final = Operation(
    id="getPayInvoice",
    tag=AROUND,
    summary="Look at an invoice",
    description="Whether it is open, paid or expired. It needs no credential, and reveals neither session nor job.",
    parameters=(_PAY_ID,),
    answers=json_answer("The invoice as it is now.", InvoiceStatus),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
INVOICE_QR: Final = Operation(
    id="showInvoice",
    tag=AROUND,
    summary="Show an invoice as a QR code",
    description="An SVG picture of an open invoice, for a wallet to scan. It loads nothing.",
    parameters=(_PAY_ID,),
    answers=(Answer(200, "The picture.", {SVG: None}),),
    errors=(Code.NOT_FOUND, Code.UNAVAILABLE),
)
