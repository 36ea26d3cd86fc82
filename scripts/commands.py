"""Commands of `satmeter` and their flags.

Each imports its modules when it runs, so that `--help`, and errors in flags, are shown at once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import macaroon_cli
from .ask import cli
from .load import cli as load_cli
from .receipts import cli as receipt_cli
from .simulation import options

if TYPE_CHECKING:
    from ..config.problem import Problem
    from ..config.settings import Settings

app = typer.Typer(
    help="Sells AI compute for Bitcoin Lightning sats. Every setting is an environment variable, see the README.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich takes longer to load than all the rest of --help.
)
app.add_typer(macaroon_cli.app, name="macaroon", short_help="Look at a macaroon, or narrow it, offline.")
app.add_typer(receipt_cli.app, name="receipt", short_help="Check prices and receipts, offline.")


@app.command(short_help="Start everything on this machine and serve.")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (SATMETER_HOST; 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one (SATMETER_PORT; 8402).")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the embedded store and keys live (SATMETER_DATA_DIR; ./.satmeter).")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Your own Redis or Valkey, 7.0 on, instead of the embedded one (REDIS_URL).")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="An existing Ray cluster instead of one on this machine (RAY_ADDRESS).")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Front processes on the port (SATMETER_WORKERS; 1).")] = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Start over a store that is empty, or older than what it confirmed, as it is: what it lost is "
            "forgotten, refunds and debits too. For one start, never for a service's file.",
        ),
    ] = False,
) -> None:
    """Start everything on this machine and serve, until SIGTERM or Ctrl-C."""
    flags = {
        "SATMETER_HOST": host,
        "SATMETER_PORT": port,
        "SATMETER_DATA_DIR": data_dir,
        "REDIS_URL": redis_url,
        "RAY_ADDRESS": ray_address,
        "SATMETER_WORKERS": workers,
    }
    import asyncio

    from ..config.loading import load_settings
    from ..config.ray_environment import prepare_ray
    from ..config.unknown_variables import unknown_variables
    from .preflight.start_checks import start_problems
    from .server.lifeline import Launcher
    from .server.problem_lines import show_problems

    launcher = Launcher.of_environment()
    settings, unreadable = load_settings({name: value for name, value in flags.items() if value is not None})
    show_problems(unknown_variables(os.environ), refused=False)
    # All problems are shown at once, so that one start is enough to learn of them.
    found, warnings = asyncio.run(start_problems(settings, unreadable, accept_loss=accept_loss))
    show_problems(found, refused=True)
    if found:
        raise typer.Exit(2 if unreadable else 1)
    show_problems(warnings, refused=False)
    prepare_ray(settings.ray_address)
    # Imported last, as it loads Ray and all else: wrong settings are reported at once, not seconds later.
    from .server.supervisor import run

    raise typer.Exit(run(settings, launcher, accept_loss))


@app.command(short_help="Show where the actors live, or set how many hosts run them.")
def scale(
    hosts: Annotated[
        str | None,
        typer.Option(help="How many hosts there should be: 1 to 256, or `auto` for as many as the servers have CPUs."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for it.", min=1)] = 120.0,
    data_dir: Annotated[
        Path | None, typer.Option(help="The data directory of a server with an embedded store (SATMETER_DATA_DIR).")
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="The servers' store (REDIS_URL).")] = None,
) -> None:
    """Show where the actors live; with --hosts, set how many hosts run them, and move actors there while they work."""
    import asyncio

    from rich.console import Console

    from .server.scale import HOSTS_MAX, ScaleError, show
    from .server.scale import scale as set_scale

    flags = {"SATMETER_DATA_DIR": data_dir, "REDIS_URL": redis_url}
    settings = _load({name: value for name, value in flags.items() if value is not None})
    count = int(hosts) if hosts is not None and re.fullmatch("[0-9]{1,3}", hosts) else None
    if hosts not in (None, "auto") and (count is None or not 1 <= count <= HOSTS_MAX):
        typer.echo(f"--hosts: must be a number from 1 to {HOSTS_MAX}, or auto", err=True)
        raise typer.Exit(2)
    console = Console(soft_wrap=True)
    try:
        asyncio.run(show(settings, console) if hosts is None else set_scale(settings, count, timeout_s, console))
    except ScaleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command(short_help="Prove the books, while the server runs or not.")
def audit(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures, and up to 100 differences, to this file.")
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file that `satmeter archive` wrote; once for each (SATMETER_ARCHIVE_FILE).",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The data directory of a server with an embedded store (SATMETER_DATA_DIR).")
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="The servers' store (REDIS_URL).")] = None,
) -> None:
    """Prove the books, while the server runs or not: journals, snapshots, totals, and the node's own list of payments.

    The exit status is 1 with the first difference, and 2 when it could not look.
    """
    from .audit.cli import run

    flags = {"SATMETER_DATA_DIR": data_dir, "REDIS_URL": redis_url}
    settings = _load({name: value for name, value in flags.items() if value is not None})
    file = settings.archive_file
    archives = archive or ([file] if file is not None and file.exists() else [])
    raise typer.Exit(run(settings, archives, json_file))


@app.command(name="archive", short_help="Move what is done from the store to a file.")
def archive_command(
    to: Annotated[
        Path | None, typer.Option(help="The file to append to, as JSON lines (SATMETER_ARCHIVE_FILE).", dir_okay=False)
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="Days since the last event, such as 90d; at least 3d (SATMETER_RETENTION_DAYS)."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The data directory of a server with an embedded store (SATMETER_DATA_DIR).")
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="The servers' store (REDIS_URL).")] = None,
) -> None:
    """Move what is done and owes nothing from the store to a file, and forget it. May run while the server does."""
    from .audit.archive_cli import run

    if older_than is not None and re.fullmatch(r"0*([3-9]|[1-9][0-9]{1,4})d?", older_than) is None:
        typer.echo("--older-than: must be a number of days, such as 90d, and at least 3d", err=True)
        raise typer.Exit(2)
    days = None if older_than is None else older_than.removesuffix("d")
    flags = {
        "SATMETER_ARCHIVE_FILE": to,
        "SATMETER_RETENTION_DAYS": days,
        "SATMETER_DATA_DIR": data_dir,
        "REDIS_URL": redis_url,
    }
    raise typer.Exit(run(_load({name: value for name, value in flags.items() if value is not None})))


@app.command(short_help="Say what is wrong with the configuration.")
def check() -> None:
    """Tell what is wrong with the configuration in the environment; the exit status is 1 when something is.

    The parts that it names are asked whether they are there, which costs nothing.
    """
    from .preflight.check import run

    raise typer.Exit(run())


@app.command(
    short_help="Start Ray's head, with its store's password on no command line.",
    context_settings={"ignore_unknown_options": True},
)
def ray_head(
    options: Annotated[list[str] | None, typer.Argument(help="Options of `ray start`, without --head.")] = None,
) -> None:
    """Run `ray start --head` of a cluster, whose state is in the store at RAY_REDIS_ADDRESS.

    User and password are in RAY_REDIS_USERNAME and RAY_REDIS_PASSWORD, or RAY_REDIS_PASSWORD_FILE. Ray takes them as
    options alone, which every user of the machine can read. Production refuses a user that reaches our own keys there.
    """
    from .server.ray_head import run

    raise typer.Exit(run(options or []))


app.command(short_help="Ask a model, and pay by the token.")(cli.ask)
app.command(short_help="Run an MCP server, by which an agent buys.")(cli.mcp)
app.command(short_help="Put a running server under load, and check its books.")(load_cli.load)
app.command(short_help="Run the server in a simulated world full of faults.")(options.simulate)


@app.command(short_help="Print the version.")
def version() -> None:
    """Print the version."""
    from .. import __version__

    typer.echo(__version__)


def _load(flags: dict[str, Any]) -> Settings:
    from ..config.loading import load_settings
    from .preflight.transport_checks import transport_problems

    settings, unreadable = load_settings(flags)
    _refuse(unreadable, status=2)
    _refuse(transport_problems(settings))
    return settings


def _refuse(found: list[Problem], status: int = 1) -> None:
    if found:
        _show(found)
        raise typer.Exit(status)


def _show(found: list[Problem]) -> None:
    for problem in found:
        typer.echo(f"{problem.variable}: {problem.message}", err=True)
