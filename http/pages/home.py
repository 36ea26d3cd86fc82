"""Home page: a description of the server, and first steps."""

from __future__ import annotations

from html import escape
from typing import Final

from starlette.responses import Response

from ...config.settings import Settings
from .html import page

# Enough for some requests.
_DEPOSIT_SATS: Final = 1_000


def home(origin: str, settings: Settings, *, stub_node: bool) -> Response:
    """Return the page for a visitor of `origin`, such as http://127.0.0.1:8402."""
    shown = escape(origin)
    deposit_sats = min(max(_DEPOSIT_SATS, settings.session_min_sats), settings.session_max_sats)
    pay = (
        "<p>This server's Lightning node is a stub. Pay without a wallet:</p>"
        f"<pre><code>curl -X POST {shown}/dev/stub/pay/&lt;paymentHash&gt;</code></pre>"
        if stub_node
        else "<p>Pay <code>paymentRequest</code> with any Lightning wallet.</p>"
    )
    return page(
        "Satmeter",
        f"""<h1>Satmeter</h1>
<p>Sells AI compute for Bitcoin Lightning sats. No account: an invoice, a payment, the work.</p>
<nav><ul>
<li><a href="/docs">Documentation</a> of every path, also as <a href="/openapi.json">OpenAPI</a></li>
<li><a href="/pricing">Prices</a></li>
<li><a href="/demo?request=What+is+a+satoshi%3F">A free question</a></li>
</ul></nav>
<h2>A job, from the command line</h2>
<p>Open it. The answer has an invoice over {settings.eval_fee_sats} sats for the evaluation of your request,
which is kept if the request is rejected.</p>
<pre><code>curl {shown}/jobs -H 'Content-Type: application/json' \\
  -d '{{"request": "Write a haiku about fees."}}'</code></pre>
{pay}
<p>Follow it to the invoice of the work, and, once that is paid, to the result with its costs:</p>
<pre><code>curl -N {shown}/jobs/&lt;jobId&gt;/events</code></pre>
<h2>A session: deposit once, pay per request</h2>
<p>Open it with {settings.session_min_sats} to {settings.session_max_sats} sats, pay its
<code>depositInvoice</code> in the same way, and keep the <code>macaroon</code>: anyone who has it can spend.</p>
<pre><code>curl {shown}/sessions -H 'Content-Type: application/json' -d '{{"amountSats": {deposit_sats}}}'</code></pre>
<p>Then ask as long as the balance lasts. Every answer says what it cost:</p>
<pre><code>curl {shown}/sessions/&lt;sessionId&gt;/request -H 'Authorization: Bearer &lt;macaroon&gt;' \\
  -H 'Content-Type: application/json' -d '{{"request": "Write a haiku about fees."}}'</code></pre>
<p>Take back what is left with an invoice of your own:</p>
<pre><code>curl {shown}/sessions/&lt;sessionId&gt;/close -H 'Authorization: Bearer &lt;macaroon&gt;' \\
  -H 'Content-Type: application/json' -d '{{"paymentRequest": "lnbc…"}}'</code></pre>""",
    )
