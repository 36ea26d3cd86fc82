"""Payment page: one invoice for a person with a phone, wherever a program got a 402.

A stranger who has the address sees what the invoice itself says, what it is for, and whether it was paid. There is no
preimage, no id and no credential on it.
"""

from __future__ import annotations

from html import escape
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError, not_found
from ...actors.domain.payments import invoices
from ...actors.domain.payments.invoices import InvoicePurpose, InvoiceState
from ...actors.domain.timestamps import timestamp
from ..lnurl.openapi import SVG
from ..lnurl.qr import svg_of
from ..payments.pay_pages import PATH, PageOf, PayPages
from ..response import json
from ..state import AppState
from .assets import Assets
from .html import application
from .openapi import InvoiceStatus

# Many may look at the same page, and it must not cost the actor a look each time.
_OPEN_FOR_MS: Final = 1_000
_OVER_FOR_MS: Final = 60_000
_KEPT_MAX: Final = 1_024
_NOT_INDEXED: Final = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}
_PICTURE: Final = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
}
_FOR: Final = {
    InvoicePurpose.DEPOSIT: "A deposit for AI answers. What is not used can be taken back.",
    InvoicePurpose.TOP_UP: "A top-up of a balance for AI answers. What is not used can be taken back.",
    InvoicePurpose.EVALUATION: "The evaluation of a request. The fee is kept if the request is rejected.",
    InvoicePurpose.WORK: "The work on a request. What it costs less than this is paid back.",
}
_PAID: Final = {
    InvoicePurpose.DEPOSIT: "The deposit is there. Go back to where you came from, and send the request again.",
    InvoicePurpose.TOP_UP: "The balance is topped up. Go back to where you came from, and send the request again.",
    InvoicePurpose.EVALUATION: "The request is being evaluated. Go back to where you came from.",
    InvoicePurpose.WORK: "The work has begun. Go back to where you came from.",
}
_EXPIRED: Final = "Do not pay it any more. Where you got this address, ask for a new invoice."


class _Kept(NamedTuple):
    at_ms: int
    until_ms: int
    shown: invoices.ShownInvoice


class PayRoutes:
    """The routes under /pay."""

    def __init__(self, state: AppState, assets: Assets, *, stub_node: bool) -> None:
        self._state = state
        self._pages = PayPages(state)
        self._assets = assets
        self._stub_node = stub_node
        self._kept: dict[str, _Kept] = {}

    async def page(self, request: Request) -> Response:
        """Answer GET /pay/{payId} with the page. Raises `RefusedError` (404, 503)."""
        _, shown = await self._look(request)
        price = await self._state.prices.current()
        data = {
            "state": shown.state.value,
            "stub": "yes" if self._stub_node else "no",
            "btc-usd": str(price.usd),
            "paid": _PAID[shown.purpose],
            "expired": _EXPIRED,
        }
        attributes = " ".join(f'data-{name}="{escape(value)}"' for name, value in data.items())
        title, body = _content(shown, f"{PATH}/{request.path_params['payId']}")
        answer = application(
            f"{title} \u00b7 Satmeter",
            f"""<header class="frame top"><a class="name" href="/">Satmeter</a></header>
<main class="frame" {attributes}>
<h1>{escape(title)}</h1>
<p class="lead">{escape(_FOR[shown.purpose])}</p>
<div id="payment">{body}</div>
</main>
<footer class="frame">This page loads nothing from elsewhere.</footer>""",
            styles=self._assets.url("site.css"),
            module=self._assets.url("pay_page.js"),
        )
        answer.headers.update(_NOT_INDEXED)
        return answer

    async def state(self, request: Request) -> Response:
        """Answer GET /pay/{payId}/invoice with the invoice as it is now. Raises `RefusedError` (404, 503)."""
        page, shown = await self._look(request)
        invoice = None if shown.invoice is None else self._pages.view(page.actor_id, shown.invoice)
        return json.json_response(InvoiceStatus(state=shown.state, purpose=shown.purpose, invoice=invoice))

    async def qr(self, request: Request) -> Response:
        """Answer GET /pay/{payId}/qr.svg with the invoice as a QR code. Raises `RefusedError` (404, 503)."""
        _, shown = await self._look(request)
        if shown.invoice is None:
            raise RefusedError(not_found("open invoice"))
        # In upper case a code needs fewer dots.
        picture = svg_of(shown.invoice.payment_request.upper())
        return Response(picture, headers=_PICTURE, media_type=SVG)

    async def _look(self, request: Request) -> tuple[PageOf, invoices.ShownInvoice]:
        """Return the content of the address, and the invoice as it was at most a moment ago."""
        name: str = request.path_params["payId"]
        page = self._pages.read(name)
        if page is None:
            raise RefusedError(not_found("invoice"))
        now_ms = self._state.now_ms()
        kept = self._kept.get(name)
        # A clock that was set back must not keep what was seen for hours.
        if kept is not None and kept.at_ms <= now_ms < kept.until_ms:
            return page, kept.shown
        shown = await self._state.router.call(page.actor_id, page.question)
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[name] = _Kept(now_ms, now_ms + (_OVER_FOR_MS if shown.invoice is None else _OPEN_FOR_MS), shown)
        return page, shown


def _content(shown: invoices.ShownInvoice, path: str) -> tuple[str, str]:
    """Return the heading, and the part that the page's module makes again."""
    invoice = shown.invoice
    if invoice is None:
        paid = shown.state is InvoiceState.PAID
        kind, head, told = ("good", "Paid", _PAID[shown.purpose]) if paid else ("bad", "This invoice is over", _EXPIRED)
        return head, f'<div class="note {kind}" role="status"><p>{escape(told)}</p></div>'
    words = "sat" if invoice.amount_sats == 1 else "sats"
    text = escape(invoice.payment_request)
    body = f"""<div class="card"><section class="invoice">
<img class="qr" width="240" height="240" alt="QR code of the invoice, for a Lightning wallet"
src="{escape(path)}/qr.svg">
<div><p>Scan the code with a Lightning wallet, or open one on this device.</p>
<div class="row"><a class="button primary" href="lightning:{text}">Open in a wallet</a></div>
<pre class="key" tabindex="0"><code>{text}</code></pre>
<p class="soft small">Good until {timestamp(invoice.expires_at_ms)}. Reload this page to see whether it was paid.</p>
</div></section></div>"""
    return f"Pay {invoice.amount_sats:,} {words}", body
