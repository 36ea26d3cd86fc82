"""Benchmark of the server's speed and needs on this machine, each figure beside another one (`scripts/bench`).

A benchmark, not a test: nothing here passes or fails. It starts servers of its own with the stub node and the stub
model, and a store that fsyncs every write. It loads them over HTTP from one process, and ends all that it has started.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich.console import Console

from .cold import measure_cold
from .grid import Grid, Report, encode
from .journal import measure_journal
from .kills import measure_kills
from .memory import measure_memory
from .openings import measure_openings
from .options import BenchOptions
from .relayed import measure_relayed_whole
from .relayed_streams import measure_relayed_streams
from .relayed_waiting import measure_relayed_waiting
from .servers import BenchError, clean_environment
from .strangers.part import measure_strangers
from .streams import measure_streams
from .table import measure_table
from .waiting import measure_waiting

Measure = Callable[[BenchOptions, Path], Awaitable[list[Grid]]]

PARTS: Final[Mapping[str, Measure]] = {
    "table": measure_table,
    "openings": measure_openings,
    "journal": measure_journal,
    "memory": measure_memory,
    "cold": measure_cold,
    "kills": measure_kills,
    "streams": measure_streams,
    "waiting": measure_waiting,
    "relayed-whole": measure_relayed_whole,
    "relayed-streams": measure_relayed_streams,
    "relayed-waiting": measure_relayed_waiting,
    "strangers": measure_strangers,
}
"""Parts that can be measured, in the order in which they are. The word before a hyphen names all that begin so."""
_INTERRUPTED: Final = 130
_WIDTH: Final = 140


def main(
    only: Annotated[
        str | None,
        typer.Option(help=f"Parts by comma, of {', '.join(PARTS)}, or relayed for its three; without it all."),
    ] = None,
    duration_s: Annotated[
        float | None, typer.Option("--duration", help="Seconds for each figure (5; with --quick 1).", min=0.1)
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds of which the median counts (3; with --quick 1).", min=1)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="With fewer sessions: to see that it works.")] = False,
    beside: Annotated[
        Path | None, typer.Option(help="`satmeter` of another version, where calls are relayed, in turn with this one.")
    ] = None,
    litellm: Annotated[Path | None, typer.Option(help="Command of LiteLLM's proxy, likewise.")] = None,
    after_s: Annotated[
        float | None,
        typer.Option("--after", help="Seconds after an attack until memory is read (60; with --quick 5).", min=0),
    ] = None,
    attacks: Annotated[str, typer.Option(help="Attacks of `strangers` by comma; without it all.")] = "",
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file too.")] = None,
) -> None:
    """Measure this machine and print the figures. A full run takes about 20 minutes and needs a quiet machine."""
    try:
        parts = chosen(only)
    except ValueError as error:
        typer.echo(f"--only: {error}", err=True)
        raise typer.Exit(2) from None
    if json is not None and not os.access(json if json.exists() else json.absolute().parent, os.W_OK):
        typer.echo(f"--json: {json} can't be written", err=True)
        raise typer.Exit(2)
    clean_environment()
    options = BenchOptions.of(
        quick=quick,
        duration_s=duration_s,
        rounds=rounds,
        beside=beside,
        litellm=litellm,
        after_s=after_s,
        attacks=tuple(name.strip() for name in attacks.split(",") if name.strip()),
    )
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    try:
        report = uvloop.run(_bench(console, options, parts, json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Ended early; what it had started is ended too.")
        raise typer.Exit(_INTERRUPTED) from None
    raise typer.Exit(1 if report.failures else 0)


def chosen(only: str | None) -> dict[str, Measure]:
    """Return the parts that were asked for, in their order. Raises `ValueError` for one that does not exist."""
    if only is None:
        return dict(PARTS)
    names = {name.strip() for name in only.split(",") if name.strip()}
    found = {name: measure for name, measure in PARTS.items() if names & {name, name.partition("-")[0]}}
    if not names or names - found.keys() - {name.partition("-")[0] for name in found}:
        raise ValueError(f"must be of {', '.join(PARTS)}")
    return found


async def _bench(console: Console, options: BenchOptions, parts: Mapping[str, Measure], json: Path | None) -> Report:
    this = asyncio.current_task()
    assert this is not None
    # SIGTERM acts as Ctrl-C does: the servers must be ended.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    report = Report(
        started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        machine=_machine(),
        options=msgspec.to_builtins(options, enc_hook=str),
    )
    console.print(", ".join(f"{name} {value}" for name, value in report.machine.items()), highlight=False)
    for name, measure in parts.items():
        began_s = time.monotonic()
        console.print(f"\n[bold]{name}[/] …", highlight=False)
        with tempfile.TemporaryDirectory(prefix=f"satmeter-bench-{name}-") as directory:
            try:
                report.parts[name] = await measure(options, Path(directory))
            except Exception as error:
                # One part that can't be measured here must not cost the figures of the others.
                report.failures[name] = why(error)
        report.took_s[name] = round(time.monotonic() - began_s, 1)
        for grid in report.parts.get(name, ()):
            grid.show(console)
        if name in report.failures:
            console.print(f"{name} could not be measured: {report.failures[name]}", style="bold red", markup=False)
        console.print(f"{name} took {report.took_s[name]:.0f} s", style="dim", highlight=False)
        if json is not None:
            _write(json, report)
    return report


def _write(json: Path, report: Report) -> None:
    json.write_bytes(encode(report))


def why(error: BaseException) -> str:
    """Return the first reason in it, in a sentence where it is one of ours."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


def _machine() -> dict[str, str | int]:
    return {
        "satmeter": version("satmeter"),
        "cpus": os.cpu_count() or 1,
        "load": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "ray": version("ray"),
    }


if __name__ == "__main__":
    typer.run(main)
