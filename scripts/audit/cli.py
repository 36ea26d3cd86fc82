"""Command line of `satmeter audit`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from ...actors.adapters.lightning_backends import backend_of
from ...actors.domain.timestamps import timestamp
from ...config.settings import Settings
from ..output_files import writable
from ..signals import run_until_interrupted
from .auditor import CannotAuditError, Report
from .auditor import audit as audit_books

_WIDTH: Final = 160
_NAMED_MAX: Final = 20
_ROWS: Final = (
    ("Actors", "actors"),
    ("Received", "received"),
    ("Can be spent", "available"),
    ("Held for work under way", "held"),
    ("Spent", "spent"),
    ("  of it for routing", "fees"),
    ("Routing beyond its reserves", "uncovered"),
    ("Owed", "owed"),
    ("In payouts under way", "pending"),
    ("Paid out", "refunded"),
)


def run(settings: Settings, archives: Sequence[Path], json_file: Path | None) -> int:
    """Audit, print the result, and return the exit status: 1 with a difference, 2 when the audit could not run."""
    if json_file is not None and not writable(json_file):
        typer.echo(f"{json_file} can't be written: name a file in a directory that exists and is yours.", err=True)
        return 2
    try:
        report = run_until_interrupted(audit_books(settings, archives, Console(stderr=True)))
    except CannotAuditError as error:
        typer.echo(str(error), err=True)
        return 2
    # A file or a pipe takes lines of any length.
    console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(soft_wrap=True, width=_WIDTH)
    _show(report, console, backend_of(settings).title)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 1 if report.difference_count else 0


def _show(report: Report, console: Console, node_title: str) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("msat", no_wrap=True)
    for name in ("Sessions", "Jobs", "Archived", "Together", node_title):
        table.add_column(name, justify="right", no_wrap=True)
    kinds, node = (report.sessions, report.jobs, report.archived), report.node
    at_node = {"received": node["received"], "fees": node["fees"], "refunded": node["paid_out"]}
    for title, name in _ROWS:
        own = at_node.get(name)
        figures = [kind[name] for kind in kinds]
        cells = [f"{figure:,}" for figure in (*figures, sum(figures))]
        table.add_row(title, *cells, "" if own is None else f"{own:,}")
    table.add_row("Wallet must hold, and holds", "", "", "", f"{report.liability_msat:,}", f"{node['wallet']:,}")
    console.print(table, highlight=False)
    if node["unclaimed"]:
        text = (
            f"\n{node['unclaimed']:,} msat came in by invoices that no session or job of this store has: made ahead "
            "and never given out, or lost by the store. At a wallet that two stores share it may be the other's:"
        )
        console.print(text, highlight=False)
        for each in report.unclaimed[:_NAMED_MAX]:
            console.print(f"  {each.amount_msat:,} msat  {each.payment_hash}", highlight=False, markup=False)
    if node["foreign"]:
        text = (
            f"\n{node['foreign']:,} msat came in by invoices that are not of this store: a server with another store "
            "or a stranger had them made at this node. Nobody here is credited for them."
        )
        console.print(text, highlight=False)
    if node["kept"]:
        text = f"\n{node['kept']:,} msat of what came in the node kept for its channels, at the operator's cost."
        console.print(text, highlight=False)
    if report.partitions_without_total:
        text = f"\n{report.partitions_without_total:,} partitions lack a running total, until a server has had them."
        console.print(text, highlight=False)
    if report.hours_compared and not report.difference_count:
        console.print(f"\nThe sums of {report.hours_compared:,} hours agree with the journals.", highlight=False)
    _show_pending(report, console)
    if not report.difference_count:
        console.print("\nThe books close: every journal, snapshot and payment agrees.", highlight=False)
        return
    console.print(
        f"\nFirst difference of {report.difference_count:,}: {report.differences[0]}", highlight=False, markup=False
    )


def _show_pending(report: Report, console: Console) -> None:
    """Name the payouts that have been under way for long, so that the operator can ask the node about them."""
    pending = report.long_pending
    if not pending:
        return
    text = (
        f"\n{len(pending):,} payouts have been under way for more than a day. Ask the node about their payment hashes: "
        'see "A payout that stays pending" in docs/lightning.md.'
    )
    console.print(text, highlight=False)
    for each in pending[:_NAMED_MAX]:
        line = f"  since {timestamp(each.since_ms)}  {each.amount_msat:,} msat  {each.payment_hash}  {each.actor_id}"
        console.print(line, highlight=False, markup=False)
