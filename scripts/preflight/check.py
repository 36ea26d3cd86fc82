"""`satmeter check`: reports all problems of a configuration at once, each with its remedy."""

from __future__ import annotations

import asyncio
import os

import typer
from rich.console import Console
from rich.table import Table

from ...config.loading import load_settings
from ...config.unknown_variables import unknown_variables
from .probes import probe
from .settings_checks import Part, parts, problems
from .store_checks import store_warnings


def run() -> int:
    """Check the configuration in the environment and the parts that it names; return the exit status."""
    settings, unreadable = load_settings({})
    found = [*unreadable, *unknown_variables(os.environ), *problems(settings)]
    faulty = {problem.variable.partition(".")[0] for problem in found}
    console = Console()
    table = Table("Part", "Is", "Which", box=None, padding=(0, 2, 0, 0))
    for part in parts(settings):
        table.add_row(part.name, _state(part, faulty), part.detail)
    console.print(table, highlight=False)
    probed = asyncio.run(probe(settings, faulty, lambda line: typer.echo(line, err=True)))
    for proof in probed.proofs:
        console.print(f"  {proof}", highlight=False, soft_wrap=True)
    found += probed.problems
    for problem in found:
        typer.echo(f"{problem.variable}: {problem.message}", err=True)
    if found:
        return 1
    for warning in (*probed.warnings, *asyncio.run(store_warnings(settings))):
        typer.echo(f"{warning.variable}: {warning.message}", err=True)
    console.print(f"\nNothing is wrong: this can run in {settings.env.value}.", highlight=False)
    return 0


def _state(part: Part, faulty: set[str]) -> str:
    if faulty & set(part.variables):
        return "[red]wrong[/]"
    return "[green]real[/]" if part.real else "[yellow]stub[/]"
