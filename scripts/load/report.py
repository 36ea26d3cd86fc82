"""Report of a load test, for programs (`--json`) and for people. docs/load.md describes every field."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from .check import Books
from .options import Options
from .refund import Refunds
from .runner import Load
from .schedule import LATE_S
from .stats import Histogram, Slot

FORMAT = 1
"""Version of the report, raised when a field changes its meaning or goes away."""


class Plan(msgspec.Struct, kw_only=True):
    """Plan of the test, as its flags ask for it."""

    url: str
    loop: str
    sessions: int
    rate_per_s: float | None
    think_s: float | None
    duration_s: float
    stream: bool
    deposit_sats: int
    max_tokens: int
    request_chars: int
    in_flight_max: int


class Percentiles(msgspec.Struct, kw_only=True):
    """Percentiles of a kind of latency; None when nothing was answered."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Failures(msgspec.Struct, kw_only=True):
    """Requests that failed in the same way, with the text of the first failure."""

    status: int
    code: str
    count: int
    example: str


class Retries(msgspec.Struct, kw_only=True):
    """Retries under the same key, and the requests that succeeded by them."""

    unavailable_attempts: int
    unavailable_mended_requests: int
    lost_attempts: int
    lost_mended_requests: int


class Lateness(msgspec.Struct, kw_only=True):
    """Delay of the generator itself behind its schedule; only of an open loop."""

    threshold_ms: float
    late_in_flight: int
    late_generator: int
    lag_max_ms: float
    not_sent: int


class Point(msgspec.Struct, kw_only=True):
    """A stretch of the load: latencies by when requests were due, other figures by when they arose."""

    at_s: float
    answered_per_s: float
    failed_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    first_token_p50_ms: float | None


class Report(msgspec.Struct, kw_only=True):
    """Result of the whole test. `books` is None when they could not be read; `failure` says why."""

    format: int = FORMAT
    started_at: str
    plan: Plan
    sessions_open: int
    opening_s: float
    interrupted: bool
    failure: str | None
    load_s: float = 0.0
    requests: int = 0
    answered: int = 0
    failed: int = 0
    answered_per_s: float = 0.0
    latency: Percentiles | None = None
    first_token: Percentiles | None = None
    errors: list[Failures] = []
    retries: Retries | None = None
    lateness: Lateness | None = None
    books: Books | None = None
    refunds: Refunds | None = None
    kept_in: str | None = None
    series: list[Point] = []
    exit_status: int = 1


def plan_of(options: Options) -> Plan:
    """Return the plan that these flags make."""
    return Plan(
        url=options.url,
        loop="open" if options.think_s is None else "closed",
        sessions=options.sessions,
        rate_per_s=options.rate_per_s,
        think_s=options.think_s,
        duration_s=options.duration_s,
        stream=options.stream,
        deposit_sats=options.deposit_sats,
        max_tokens=options.max_tokens,
        request_chars=len(options.request),
        in_flight_max=options.in_flight_max,
    )


def add_load(report: Report, load: Load, *, stream: bool) -> None:
    """Write what the load has shown into the report."""
    recorder = load.recorder
    report.load_s = round(load.load_s, 3)
    report.requests = recorder.answered + recorder.failed
    report.answered, report.failed = recorder.answered, recorder.failed
    report.answered_per_s = round(load.answered_in_time / load.load_s, 2) if load.load_s else 0.0
    report.latency = _percentiles(recorder.latency)
    report.first_token = _percentiles(recorder.first_token) if stream else None
    report.errors = [
        Failures(status=kind[0], code=kind[1], count=count, example=recorder.examples[kind])
        for kind, count in recorder.errors.most_common()
    ]
    report.retries = Retries(
        unavailable_attempts=recorder.retried_unavailable,
        unavailable_mended_requests=recorder.mended_unavailable,
        lost_attempts=recorder.retried_lost,
        lost_mended_requests=recorder.mended_lost,
    )
    if load.schedule is not None:
        report.lateness = Lateness(
            threshold_ms=LATE_S * 1_000,
            late_in_flight=load.schedule.late_in_flight,
            late_generator=load.schedule.late_generator,
            lag_max_ms=_ms(load.schedule.lag_max_s) or 0.0,
            not_sent=load.schedule.not_sent(load.load_s),
        )
    if report.requests and not report.answered:
        report.failure = "Not one request was answered as it should be."
    width_s = recorder.slot_s
    # Answers after the end, and the stump of a stretch, would look like a collapse.
    whole = [slot for at, slot in enumerate(recorder.slots) if (at + 0.5) * width_s <= load.load_s]
    report.series = [
        _point(slot, at * width_s, min(width_s, load.load_s - at * width_s)) for at, slot in enumerate(whole)
    ]


def _point(slot: Slot, at_s: float, width_s: float) -> Point:
    return Point(
        at_s=at_s,
        answered_per_s=round(slot.answered / width_s, 2),
        failed_per_s=round(slot.failed / width_s, 2),
        p50_ms=_ms(slot.latency.percentile_s(50)),
        p99_ms=_ms(slot.latency.percentile_s(99)),
        first_token_p50_ms=_ms(slot.first_token.percentile_s(50)),
    )


def _percentiles(histogram: Histogram) -> Percentiles:
    return Percentiles(
        count=histogram.count,
        p50_ms=_ms(histogram.percentile_s(50)),
        p95_ms=_ms(histogram.percentile_s(95)),
        p99_ms=_ms(histogram.percentile_s(99)),
        max_ms=_ms(histogram.percentile_s(100)),
    )


def _ms(duration_s: float | None) -> float | None:
    return None if duration_s is None else round(duration_s * 1_000, 3)


def encode(report: Report) -> bytes:
    """Return the report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


# The summary for people


def show(report: Report, console: Console) -> None:
    """Print the summary."""
    if report.requests or report.latency is not None:
        console.print(_figures(report))
        for line in (*_retry_lines(report), *_late_lines(report)):
            console.print(line)
        for failures in report.errors:
            status = f"status {failures.status}" if failures.status else "no status"
            what = f"{failures.count:,} with {status}, {failures.code}"
            console.print(f"[red]failed:[/] {what}; the first: {_plain(failures.example)}")
    if report.interrupted:
        console.print("The test was ended early.")
    if report.failure is not None:
        console.print(f"[bold red]{_plain(report.failure)}[/]")
    for line in (*_book_lines(report), *_refund_lines(report)):
        console.print(line)
    if report.kept_in is not None:
        console.print(f"The sessions' macaroons are in {_plain(report.kept_in)}.")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _figures(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    plan = report.plan
    asked = f"{plan.rate_per_s:g} requests/s due" if plan.loop == "open" else f"{plan.think_s:g} s of thought"
    table.add_row("load", f"{report.sessions_open:,} sessions, {asked}, {report.load_s:.1f} s")
    table.add_row("requests", f"{report.requests:,}, of which {report.answered:,} answered, {report.failed:,} failed")
    table.add_row("answered", f"{report.answered_per_s:,.1f} requests/s")
    table.add_row("latency", _in_words(report.latency))
    if report.first_token is not None:
        table.add_row("first text", _in_words(report.first_token))
    return table


def _in_words(latency: Percentiles | None) -> str:
    if latency is None or latency.p50_ms is None:
        return "nothing was answered"
    values: list[tuple[str, Any]] = [
        ("p50", latency.p50_ms),
        ("p95", latency.p95_ms),
        ("p99", latency.p99_ms),
        ("max", latency.max_ms),
    ]
    return ", ".join(f"{name} {value:,.1f} ms" for name, value in values)


def _retry_lines(report: Report) -> list[str]:
    retries = report.retries
    if retries is None:
        return []
    after = (
        (retries.unavailable_attempts, "503", retries.unavailable_mended_requests),
        (retries.lost_attempts, "lost answer", retries.lost_mended_requests),
    )
    return [
        f"retries under the same key: {attempts:,} after a {what}, which mended {mended:,} requests"
        for attempts, what, mended in after
        if attempts
    ]


def _late_lines(report: Report) -> list[str]:
    late = report.lateness
    if late is None:
        return []
    lines = []
    if late.late_generator:
        lines.append(
            f"[yellow]The generator could not keep up:[/] {late.late_generator:,} requests started more than "
            f"{late.threshold_ms:g} ms late because this process was too slow."
        )
    if late.late_in_flight:
        lines.append(
            f"[yellow]All places were taken:[/] {late.late_in_flight:,} requests started late because "
            f"{report.plan.in_flight_max:,} were unanswered (--in-flight)."
        )
    if lines:
        lines.append(f"The latest of these started {late.lag_max_ms:,.0f} ms late; their latency includes that.")
    if late.not_sent:
        lines.append(f"[yellow]{late.not_sent:,} requests were due and never sent;[/] no latency includes them.")
    return lines


def _book_lines(report: Report) -> list[str]:
    books = report.books
    if books is None:
        return []
    lines = []
    if books.unknown_requests:
        lines.append(
            f"The outcome of {books.unknown_requests:,} requests is unknown to this client; the ledger has debits of "
            f"{books.untold_msat:,} msat for them, which are allowed for."
        )
    if books.close:
        lines.append(
            f"[green]The books close:[/] {books.sessions:,} sessions, {books.deposited_msat:,} msat deposited, "
            f"{books.spent_msat:,} spent, {books.ledger_entries:,} ledger entries."
        )
    else:
        lines.append(
            f"[bold red]The books do not close:[/] {books.differences:,} differences in {books.sessions:,} sessions. "
            f"The first: {_plain(books.first_difference or '')}."
        )
    return lines


def _refund_lines(report: Report) -> list[str]:
    refunds = report.refunds
    if refunds is None:
        return []
    paid, left = f"{refunds.paid_back_msat:,} msat", f"{refunds.left_msat:,} msat"
    lines = [f"Paid back to the wallet: {paid} from {refunds.sessions:,} sessions; {left} stay owed."]
    if refunds.failed:
        lines.append(f"[bold red]{refunds.failed:,} were not refunded.[/] {_plain(refunds.first_failure or '')}")
    return lines
