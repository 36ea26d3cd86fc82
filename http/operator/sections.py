"""Sections of the operator's page, as HTML. What others wrote, such as names of models, is escaped like all text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Final

from ...actors.domain import sums as names
from ...actors.domain.pricing import PriceOrigin
from ...actors.operator.books import OpenPayout
from . import words
from .answers import LONGEST_S, answers_of
from .charts import Chart, Series, figure
from .figures import SPANS, Figures, Takings, by_model, charged, cost, cost_nanodollars
from .verdicts import doubtful

NONE: Final = words.NONE
UNREAD: Final = '<p class="note">This can\'t be read just now. The page tries again when it is loaded again.</p>'


def tile(name: str, value: str, meaning: str, grade: str = "") -> str:
    """Return a figure with its name and its meaning."""
    return (
        f'<div class="tile {escape(grade)}"><dt>{escape(name)}</dt><dd><span class="value">{escape(value)}</span>'
        f'<span class="meaning">{escape(meaning)}</span></dd></div>'
    )


def tiles(*parts: str) -> str:
    """Return a list of figures."""
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int] = frozenset()
) -> str:
    """Return a table of cells that are HTML; `numbers` are the columns of figures."""
    kinds = [' class="number"' if place in numbers else "" for place in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for text, kind in zip(heads, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}"><table>'
        f'<caption class="away">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def section(key: str, title: str, body: str) -> str:
    """Return a section of the page."""
    return f'<section class="card" aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{body}</section>'


def money(figures: Figures) -> str:
    """Return takings, cost and margin, and what came in and went out."""
    takings = figures.takings
    if takings is None:
        return section("money", "Money", UNREAD)
    total, span = takings.total, takings.span
    taken, spent = charged(total), cost(total)
    uncovered = total.get(names.UNCOVERED, 0)
    beyond = f", and {words.sats(uncovered)} of routes beyond their reserves" if uncovered else ""
    links = "".join(
        f'<a href="?span={other.key}#money"{" aria-current=page" if other == span else ""}>{escape(other.title)}</a>'
        for other in SPANS.values()
    )
    now = tiles(
        tile("Takings", words.sats(taken), "What clients were charged for answers, evaluations and work."),
        tile(
            "Cost",
            words.sats(spent),
            f"{words.dollars(cost_nanodollars(total))} for models, by your price list, with infrastructure{beyond}.",
        ),
        tile(
            "Margin",
            words.sats(taken - spent),
            f"Takings less cost: {words.percent(taken - spent, taken)} of the takings.",
        ),
        tile(
            "Paid in",
            words.sats(total.get(names.RECEIVED, 0)),
            "Deposits, top-ups and invoices of jobs that were paid.",
        ),
        tile("Paid back", words.sats(total.get(names.REFUNDED, 0)), "Refunds that reached clients."),
        tile(
            "Routing",
            words.sats(total.get(names.ROUTING, 0)),
            "Fees of refunds' routes, paid by the clients' reserves.",
        ),
    )
    ever = takings.ever
    began = f" They are counted since {words.clock(takings.since)}." if takings.since is not None else ""
    uncounted = "" if takings.counted else " A host of an earlier version does not count: figures are missing."
    always = (
        f"<p class='soft'>Since the beginning: {words.sats(charged(ever))} taken, {words.sats(cost(ever))} spent, "
        f"{words.sats(ever.get(names.RECEIVED, 0))} paid in, {words.sats(ever.get(names.REFUNDED, 0))} paid back."
        f"{escape(began)}{escape(uncounted)} <code>satmeter audit</code> proves these figures.</p>"
    )
    spans = f'<nav class="spans" aria-label="Span of time">{links}</nav>'
    body = f'{spans}{now}<div class="charts">{_charts(takings)}</div>{always}'
    return section("money", f"Money in the last {span.title}", body)


def _charts(takings: Takings) -> str:
    short = "%H:%M" if takings.span.hours < 24 and takings.span.places <= 24 else "%d %b"
    labels = [f"{begin:{short}}" for begin in takings.begins]
    longs = [f"{begin:%Y-%m-%d %H:%M}" if takings.span.hours < 24 else f"{begin:%Y-%m-%d}" for begin in takings.begins]

    def series(name: str, key: str) -> Series:
        return Series(name, [place.get(key, 0) for place in takings.places])

    taken = Series("Takings", [charged(place) for place in takings.places])
    spent = Series("Cost", [cost(place) for place in takings.places])
    each = {1: "hour", 6: "six hours", 24: "day"}[takings.span.hours]
    sats, plain = words.short_sats, words.short
    charts = (
        Chart("earned", "Takings and cost", f"Sats for each {each}.", labels, longs, [taken, spent], sats),
        Chart(
            "moved",
            "Paid in and paid back",
            f"Sats for each {each}.",
            labels,
            longs,
            [series("Paid in", names.RECEIVED), series("Paid back", names.REFUNDED)],
            sats,
        ),
        Chart(
            "asked",
            "Requests",
            f"Requests of sessions for each {each}; those that failed cost nothing.",
            labels,
            longs,
            [series("Answered", names.REQUESTS), series("Failed", names.REQUESTS_FAILED)],
            plain,
        ),
        Chart(
            "jobs",
            "Jobs",
            f"Jobs that came to an end in each {each}.",
            labels,
            longs,
            [series("Complete", names.JOBS_COMPLETE), series("Failed", names.JOBS_FAILED)],
            plain,
        ),
    )
    return "".join(map(figure, charts))


def hidden(name: str, value: str) -> str:
    """Return a field of a form that is not shown."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def _payout(payout: OpenPayout, figures: Figures, form_token: str) -> list[str]:
    """Return the row of a payout."""
    now_ms, name = int(figures.at.timestamp()) * 1_000, escape(words.short_id(payout.actor_id))
    look = ""
    if payout.under_way:
        why = "The node did not say that it was paid, so it is looked up and never sent again."
        if payout.final_ms:
            why += " A \N{LEFT DOUBLE QUOTATION MARK}failed\N{RIGHT DOUBLE QUOTATION MARK} of the node counts from "
            why += f"{words.at_ms(payout.final_ms)} on."
        state = "Not known"
        look = (
            f'<form method="post" action="/operator/look">{hidden("form", form_token)}'
            f'{hidden("actor", payout.actor_id)}<button aria-label="Look again at {name}">Look again</button></form>'
        )
    else:
        state, why = "Failed", words.reason_of_refusal(payout.refusal, payout.error)
    if payout.sending and not doubtful(payout, now_ms):
        state, why = "On its way", "The node was told to pay a moment ago."
    amount, age = payout.amount_msat or payout.owed_msat, words.since(payout.since_ms, figures.at)
    cells = f"<code>{name}</code>", escape(words.sats(amount)), escape(age), f"<strong>{state}</strong>", escape(why)
    return [*cells, look]


def payouts(figures: Figures, form_token: str) -> str:
    """Return the payouts that are not paid, with a button that asks the node again."""
    found = figures.payouts
    if found is None:
        return section("payouts", "Refunds that are not paid", UNREAD)
    if not found.listed:
        return section("payouts", "Refunds that are not paid", "<p>There are none.</p>")
    rows = [_payout(payout, figures, form_token) for payout in found.listed]
    more = f"<p>{found.total - len(found.listed):,} more are not shown.</p>" if found.total > len(found.listed) else ""
    heads = ("Session or job", "Amount", "For", "State", "Why", "")
    body = table("Refunds that are not paid", heads, rows, frozenset({1}))
    text = "<p class='soft'>To look again asks the node what became of a payment. It never sends one.</p>"
    return section("payouts", "Refunds that are not paid", f"{text}{body}{more}")


def states(figures: Figures) -> str:
    """Return sessions and jobs by state, and how they ended."""
    census, takings = figures.census, figures.takings
    parts = []
    if census is None:
        parts.append(UNREAD)
    else:
        about = "" if census.looked_at == census.total else "about "
        rows = []
        for (kind, state), count in sorted(census.states.items()):
            scaled = count if not about else count * census.total // max(census.looked_at, 1)
            name = words.STATES.get((kind, state), f"{kind} {state}")
            rows.append([escape(name), f"{about}{scaled:,}"])
        parts.append(table("Sessions and jobs by state", ("Now", "How many"), rows, frozenset({1})) if rows else "")
        parts.append("" if rows else "<p>No session or job is open.</p>")
    if takings is not None:
        total = takings.total
        ended = (
            ("Sessions that were paid for", names.SESSIONS_PAID),
            ("Sessions that were closed", names.SESSIONS_CLOSED),
            ("Sessions that expired", names.SESSIONS_EXPIRED),
            ("Requests that were answered", names.REQUESTS),
            ("Requests that failed, and cost nothing", names.REQUESTS_FAILED),
            ("Jobs that were paid for", names.JOBS_PAID),
            ("Jobs that were completed", names.JOBS_COMPLETE),
            ("Jobs that were rejected", names.JOBS_REJECTED),
            ("Jobs that failed", names.JOBS_FAILED),
            ("Jobs whose work was not paid", names.JOBS_EXPIRED),
            ("Refunds that were paid", names.PAYOUTS_PAID),
            ("Refunds that failed", names.PAYOUTS_FAILED),
        )
        rows = [[escape(name), f"{total.get(key, 0):,}"] for name, key in ended]
        title = f"In the last {takings.span.title}"
        parts.append(table(title, (title, "How many"), rows, frozenset({1})))
    return section("states", "Sessions, requests and jobs", f'<div class="pair">{"".join(parts)}</div>')


def models(figures: Figures) -> str:
    """Return what each model did, and how each upstream fares."""
    parts, takings, now_ms = [], figures.takings, int(figures.at.timestamp()) * 1_000
    if takings is not None:
        rows = [
            [
                f"<code>{escape(model)}</code>",
                f"{sums.get(names.MODEL_CALLS, 0):,}",
                f"{sums.get(names.MODEL_INPUT, 0):,}",
                f"{sums.get(names.MODEL_CACHED, 0):,}",
                f"{sums.get(names.MODEL_OUTPUT, 0):,}",
                escape(words.dollars(sums.get(names.MODEL_COST_USD, 0))),
            ]
            for model, sums in by_model(takings.total).items()
        ]
        heads = ("Model", "Answers", "Tokens in", "of them cached", "Tokens out", "Cost")
        title = f"Models in the last {takings.span.title}"
        parts.append(table(title, heads, rows, frozenset(range(1, 6))) if rows else "<p>No model has answered.</p>")
    if figures.upstreams:
        rows = []
        for name, word in figures.upstreams.items():
            outage = word.outage_at(now_ms)
            if outage is None:
                state = "Answers" if not word.failures else f"Answers; the last {word.failures} calls failed"
            else:
                fault = "not asked yet" if outage.fault is None else outage.fault.value
                stage = "Away" if word.down(now_ms) else "On trial"
                state = f"{stage} for {words.since(outage.since_ms, figures.at)}: {fault}"
            waits = ", ".join(
                f"{model} until {words.at_ms(wait.until_ms)}"
                for model, wait in word.waits.items()
                if wait.left_ms(now_ms)
            )
            rows.append([f"<code>{escape(name)}</code>", escape(state), escape(waits or NONE)])
        parts.append(table("Upstreams", ("Upstream", "State", "Asked us to wait"), rows))
    elif figures.upstreams is not None:
        parts.append("<p class='soft'>The model is the stub, which is always there.</p>")
    return section("models", "Models", "".join(parts))


def traffic(figures: Figures) -> str:
    """Return how fast and how well requests were answered in the last hour."""
    if figures.answers is None:
        return section("traffic", "The last hour", UNREAD)
    found = answers_of(figures.answers)

    def within(percent: int) -> str:
        bound = found.percentile(percent)
        if not found.all:
            return NONE
        if bound is None:
            return f"over {LONGEST_S} s"
        return f"{bound} ms" if bound < 1_000 else f"{bound // 1_000}.{bound % 1_000 // 100} s"

    body = tiles(
        tile("Requests", f"{found.all:,}", "Answered by all fronts, health checks and this page left out."),
        tile(
            "Failed",
            f"{found.failed:,}",
            f"By a fault of ours or of a part that we need: {words.percent(found.failed, found.all)}.",
            "bad" if found.failed * 100 > found.all else "",
        ),
        tile(
            "Refused",
            f"{found.refused:,}",
            f"For want of payment, or a mistake of the client's: {words.percent(found.refused, found.all)}.",
        ),
        tile("Half began within", within(50), "From the request to the first byte of its answer."),
        tile("95 of 100 within", within(95), "The slowest of a hundred are what people remember."),
    )
    return section("traffic", "The last hour", body)


def machine(figures: Figures) -> str:
    """Return price, hosts, store, and what the treasury found."""
    price, found = figures.price, figures.findings
    source = "CoinGecko" if price.origin is PriceOrigin.COINGECKO else "BTC_PRICE_USD_FALLBACK, as no source answered"
    kept = "not known" if found is None else "yes" if not found.store_losses else "no"
    losses = (
        "" if found is None else ", ".join(f"{loss} {address}".strip() for address, loss in found.store_losses.items())
    )
    compared = NONE if found is None else f"{found.compared_payouts:,}"
    refused = sum(figures.refusals.counts.values())
    body = tiles(
        tile("Price of a bitcoin", f"${price.usd:,f}", f"By {source}, {words.since(price.at_ms, figures.at)} ago."),
        tile("Store keeps all it confirms", kept, losses or "By its append-only file and its fsync."),
        tile("Payouts compared", compared, "Payments of the wallet in seven days, each held to its journal."),
        tile("Payouts the node refused", f"{refused:,}", "Ever: for its key, its funds or its rules. They stay owed."),
    )
    return section("machine", "Price, store and treasury", body)


def hosts(figures: Figures) -> str:
    """Return the hosts with their partitions."""
    partitions = figures.partitions
    if partitions is None:
        return section("hosts", "Hosts and partitions", UNREAD)
    view = partitions.view
    known = sorted({*partitions.by_host, *view.placement.members})
    rows = []
    for host in known:
        state = (
            "Away"
            if host in view.placement.away
            else "In the plan"
            if host in view.placement.members
            else "Not in the plan"
        )
        rows.append([f"<code>{escape(host)}</code>", f"{partitions.by_host.get(host, 0):,}", state])
    servers = ", ".join(server.address for server in view.servers) or "none has said so"
    body = table("Hosts", ("Host", "Partitions", "State"), rows, frozenset({1}))
    text = (
        f"<p class='soft'>Every session and job belongs to one of 1,024 partitions, and each to one host. "
        f"{partitions.unowned:,} have no host. Servers: {escape(servers)}.</p>"
    )
    return section("hosts", "Hosts and partitions", text + body)


def contents(parts: Sequence[tuple[str, str]]) -> str:
    """Return links to the sections."""
    links = [f'<a href="#{key}">{escape(title)}</a>' for key, title in parts]
    assert len({key for key, _ in parts}) == len(parts) and all(a != b for a, b in pairwise(links))
    return f'<nav class="contents" aria-label="Sections">{"".join(links)}</nav>'
