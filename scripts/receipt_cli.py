"""`satmeter receipt`: checks what a server signed, offline."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .quote_check import MismatchError, check_quote

app = typer.Typer(help="Check what a server signed: prices and receipts. Works offline.", no_args_is_help=True)

# More than any file that a server gives.
_FILE_MAX_BYTES = 64 * 1_048_576


@app.command("quote")
def quote_(
    file: Annotated[Path, typer.Argument(help="A saved JobStatus (GET /jobs/{jobId}); - reads standard input.")],
) -> None:
    """Check that a job's price is the one to which its work invoice commits. The exit status is 1 when it is not."""
    try:
        typer.echo(check_quote(_object(file)))
    except MismatchError as error:
        _fail(str(error))


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in the file, its fractions exact."""
    try:
        value = json.loads(_read(file), parse_float=Decimal)
    except (ValueError, RecursionError):
        _fail(f"{file} does not hold JSON.")
    if not isinstance(value, dict):
        _fail(f"{file} does not hold a JSON object.")
    return value


def _read(file: Path) -> bytes:
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source:
            data = source.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        _fail(f"{file} can't be read: {error.strerror}.")
    if len(data) > _FILE_MAX_BYTES:
        _fail(f"{file} is larger than any file that a server gives.")
    return data


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
