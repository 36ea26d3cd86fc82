"""Pages of the operator: the sign-in, and the figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Final

from ...actors.ports import WalletWords
from . import sections, words
from .figures import Figures
from .verdicts import Grade, Verdict, verdicts

_MARKS: Final = {Grade.GOOD: "✓", Grade.LOOK: "!", Grade.BAD: "✗"}
_NAME: Final = "Satmeter"
_CONTENTS: Final = (
    ("money", "Money"),
    ("payouts", "Refunds"),
    ("states", "Sessions and jobs"),
    ("traffic", "Last hour"),
    ("models", "Models"),
    ("machine", "Price and store"),
    ("hosts", "Hosts"),
)


def sign_in(trouble: str | None) -> str:
    """Return the body of the page that asks for the token."""
    told = f'<p class="note bad" role="alert"><strong>{escape(trouble)}</strong></p>' if trouble else ""
    return _frame(
        "<h1>For the operator</h1>"
        '<div class="card narrow">'
        f"{told}"
        '<form method="post" action="/operator/sign-in"><div class="field"><label for="token">Operator token</label>'
        # Password managers keep the token under this name.
        '<input class="away" name="username" autocomplete="username" value="operator" tabindex="-1" '
        'aria-hidden="true" readonly><input id="token" name="token" type="password" '
        'autocomplete="current-password" required '
        'aria-describedby="token-hint"><p class="hint" id="token-hint">It is the value of <code>OPERATOR_TOKEN</code> '
        "with which this server was started. The browser stays signed in for twelve hours.</p></div>"
        '<button class="primary">Sign in</button></form></div>',
        "",
    )


def without_token() -> str:
    """Return the body of the page of a server that has no token."""
    return _frame(
        "<h1>For the operator</h1>"
        '<div class="card narrow"><p>This server has no operator token, so nobody can sign in. Choose one of at least '
        "32 characters, and start the server with it:</p>"
        '<pre tabindex="0"><code>export OPERATOR_TOKEN="$(openssl rand -hex 32)"\nsatmeter serve</code></pre>'
        "<p>Or put it into a file that only the server can read, and name that: <code>OPERATOR_TOKEN_FILE</code>. "
        "Then load this page again.</p></div>",
        "",
    )


def in_the_clear() -> str:
    """Return the body of the page for a visitor whose connection anyone on the way can read."""
    return _frame(
        "<h1>For the operator</h1>"
        '<div class="card narrow"><p>This page came over a connection that others can read, so the token must not be '
        "typed here. Open it by the <code>https</code> address of your proxy, or through a tunnel from your own "
        "machine:</p>"
        '<pre tabindex="0"><code>ssh -L 8402:127.0.0.1:8402 your-server</code></pre>'
        "<p>Then it is at <code>http://127.0.0.1:8402/operator</code>.</p></div>",
        "",
    )


def untold(told: str, form_token: str) -> str:
    """Return the body of the page while it can't be known whether a sign-in holds. `told`: what can't be reached."""
    trouble = f"<p><strong>{escape(told)}</strong></p>" if told else ""
    return _frame(
        "<h1>For the operator</h1>"
        f'<div class="card narrow">{trouble}'
        "<p>The store could not tell whether this sign-in was ended elsewhere. So this page shows no figures until the "
        'store answers again. <a href="/operator">Load again</a></p>'
        "<p>To see them before that, send the token itself, from the server:</p>"
        '<pre tabindex="0"><code>curl -H "Authorization: Bearer $OPERATOR_TOKEN" http://127.0.0.1:8402/operator'
        "</code></pre>"
        "<p>The log says why a part can't be reached, and <code>satmeter check</code> tries each of them.</p></div>",
        _sign_out(form_token),
    )


def dashboard(figures: Figures, wallet: WalletWords, form_token: str, looked: str) -> str:
    """Return the body of the page with all figures."""
    news = f'<p class="note" role="status">{escape(words.LOOKED[looked])}</p>' if looked in words.LOOKED else ""
    return _frame(
        f"<h1>How the server is doing</h1>"
        f'<p class="soft as-of">As of {words.clock(figures.at)}. <a href="">Load again</a>'
        '<label class="check scripted every" hidden><input type="checkbox" id="every">Every minute</label></p>'
        f"{news}{_verdicts(verdicts(figures, wallet))}{sections.contents(_CONTENTS)}"
        f"{sections.money(figures)}{sections.payouts(figures, form_token)}{sections.states(figures)}"
        f"{sections.traffic(figures)}{sections.models(figures)}{sections.machine(figures)}{sections.hosts(figures)}",
        _sign_out(form_token),
    )


def _sign_out(form_token: str) -> str:
    return (
        f'<form method="post" action="/operator/sign-out">{sections.hidden("form", form_token)}'
        '<button class="plain">Sign out</button></form>'
    )


def _verdicts(found: Sequence[Verdict]) -> str:
    parts = []
    for verdict in found:
        because = "".join(f"<li>{_coded(sentence)}</li>" for sentence in verdict.because)
        parts.append(
            f'<div class="verdict {verdict.grade.value}"><h2>{escape(verdict.question)}</h2>'
            f'<p class="answer"><span aria-hidden="true">{_MARKS[verdict.grade]}</span> {escape(verdict.answer)}</p>'
            f'<ul role="list">{because}</ul></div>'
        )
    return f'<div class="verdicts">{"".join(parts)}</div>'


def _coded(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _frame(body: str, right: str) -> str:
    return (
        '<a class="skip" href="#content">To the page\'s content</a>'
        f'<header class="frame top operator-top"><a class="name" href="/">{_NAME}</a>{right}</header>'
        f'<main class="frame operator" id="content" tabindex="-1">{body}</main>'
        '<footer class="frame operator-foot">This page loads nothing from elsewhere.</footer>'
    )
