"""Home page: a client of the API for people, and first steps on the command line."""

from __future__ import annotations

from html import escape
from typing import Final, NamedTuple

from starlette.responses import Response

from ...config.settings import Settings
from .assets import Assets
from .html import application


class OwnModels(NamedTuple):
    """Names of the models that the server itself uses: for small things, and for work."""

    small: str
    work: str


# Enough for some requests.
_DEPOSIT_SATS: Final = 1_000


def home(origin: str, settings: Settings, assets: Assets, models: OwnModels, *, stub_node: bool) -> Response:
    """Return the page for a visitor of `origin`, such as http://127.0.0.1:8402."""
    shown = escape(origin)
    deposit_sats = min(max(_DEPOSIT_SATS, settings.session_min_sats), settings.session_max_sats)
    pay = (
        "<p>This server's Lightning node is a stub. Pay without a wallet:</p>"
        f'<pre tabindex="0"><code>curl -X POST {shown}/dev/stub/pay/&lt;paymentHash&gt;</code></pre>'
        if stub_node
        else "<p>Pay <code>paymentRequest</code> with any Lightning wallet.</p>"
    )
    commands = f"""<h3>A job</h3>
<p>Open it. The answer has an invoice over {settings.eval_fee_sats} sats for the evaluation of your request,
which is kept if the request is rejected.</p>
<pre tabindex="0"><code>curl {shown}/jobs -H 'Content-Type: application/json' \\
  -d '{{"request": "Write a haiku about fees."}}'</code></pre>
{pay}
<p>Follow it to the invoice of the work, and, once that is paid, to the result with its costs:</p>
<pre tabindex="0"><code>curl -N {shown}/jobs/&lt;jobId&gt;/events</code></pre>
<h3>A session: deposit once, pay per request</h3>
<p>Open it with {settings.session_min_sats} to {settings.session_max_sats} sats, pay its
<code>depositInvoice</code> in the same way, and keep the <code>macaroon</code>: anyone who has it can spend.</p>
<pre tabindex="0"><code>curl {shown}/sessions -H 'Content-Type: application/json' \\
  -d '{{"amountSats": {deposit_sats}}}'</code></pre>
<p>Then ask as long as the balance lasts. Every answer says what it cost:</p>
<pre tabindex="0"><code>curl {shown}/sessions/&lt;sessionId&gt;/request -H 'Authorization: Bearer &lt;macaroon&gt;' \\
  -H 'Content-Type: application/json' -d '{{"request": "Write a haiku about fees."}}'</code></pre>
<p>Take back what is left with an invoice of your own:</p>
<pre tabindex="0"><code>curl {shown}/sessions/&lt;sessionId&gt;/close -H 'Authorization: Bearer &lt;macaroon&gt;' \\
  -H 'Content-Type: application/json' -d '{{"paymentRequest": "lnbc…"}}'</code></pre>"""
    return application(
        "Satmeter: ask an AI, pay in sats",
        f"""<a class="skip" href="#session">To the page's content</a>
<header class="frame top"><a class="name" href="/">Satmeter</a>
<nav aria-label="Pages"><a href="#prices">Prices</a><a href="/docs">API</a></nav></header>
<main class="frame" {_data(settings, models, stub_node=stub_node)}>
<h1>Ask an AI. Pay in sats.</h1>
<p class="lead">No account and no card. Pay with any Lightning wallet, a few sats an answer,
and take back what is left.</p>
<noscript><div class="card"><h2>Without JavaScript</h2>
<p>The forms of this page need JavaScript. A terminal does the same:</p>
{commands}</div></noscript>
<nav class="modes scripted" aria-label="What to buy">
<a href="#chat">Chat <span>Deposit once, ask as often as it lasts</span></a>
<a href="#job">One job <span>One request, one price, one result</span></a></nav>
<div id="job" hidden></div>
<div id="session"><div class="card loading scripted">
<p class="waiting" role="status">One moment</p></div></div>
<div class="card panels">
<details><summary>Prices</summary><div id="prices" tabindex="-1">
<div id="price-list"></div>
<p class="small">For programs: <a href="/pricing">prices as JSON</a>.</p></div></details>
<details class="scripted"><summary>From the command line</summary><div>
<p><a href="/docs">All paths</a>, also as <a href="/openapi.json">OpenAPI</a>.
<a href="/demo?request=What+is+a+satoshi%3F">A free question.</a></p>
{commands}</div></details>
</div>
</main>
<footer class="frame">This page loads nothing from elsewhere. Keys stay in your browser.</footer>""",
        styles=assets.url("site.css"),
        module=assets.url("home.js"),
    )


def _data(settings: Settings, models: OwnModels, *, stub_node: bool) -> str:
    """Return what the page's modules need to know, as attributes."""
    values = {
        "stub": "yes" if stub_node else "no",
        "public-url": "yes" if settings.public_url else "no",
        "min-sats": settings.session_min_sats,
        "max-sats": settings.session_max_sats,
        "eval-fee-sats": settings.eval_fee_sats,
        "work-model": models.work,
        "small-model": models.small,
    }
    return " ".join(f'data-{name}="{escape(str(value))}"' for name, value in values.items())
