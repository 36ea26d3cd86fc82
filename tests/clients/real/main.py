"""Command `scripts/test-clients`."""

from __future__ import annotations

import argparse
import sys
import time

import typer

from .battery import Row, run, world
from .catalogue import CLIENTS
from .report import PAGE, written


def main() -> int:
    """Run the clients that were asked for; return 1 when anything failed or could not be run."""
    names = [client.name for client in CLIENTS]
    parser = argparse.ArgumentParser(
        prog="scripts/test-clients",
        description="Installs real clients from PyPI and npm, runs each against a real server whose model is scripted, "
        "and writes the rows of docs/clients.md. It ends with 1 when a client failed or could not be run.",
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=names, help="run this client; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="print the clients' names and versions")
    parser.add_argument("--no-page", action="store_true", help="leave docs/clients.md as it is")
    wanted = parser.parse_args()
    if wanted.list:
        for client in CLIENTS:
            typer.echo(f"{client.name:20} {client.version:12} {', '.join(client.ways)}")
        return 0
    began_s = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"[{time.monotonic() - began_s:4.0f} s] {text}")

    say("starting the server")
    rows: list[Row] = []
    with world() as served:
        for client in CLIENTS:
            if wanted.only is None or client.name in wanted.only:
                rows += run(client, served, say)
                if not wanted.no_page:
                    PAGE.write_text(written(PAGE.read_text(), rows))
    failed = [row for row in rows if not row.passed]
    for row in failed:
        say(f"FAILED: {row.client.name}, {row.way}: {row.results}")
    say(f"{len(rows) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
