"""`satmeter receipt`: offline checks of prices and receipts that a server signed."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(help="Check what a server signed: prices and receipts. Works offline.", no_args_is_help=True)

# Larger than any file from a server.
_FILE_MAX_BYTES = 64 * 1_048_576


@app.command()
def verify(
    file: Annotated[
        Path, typer.Argument(help="A saved answer of …/receipt, or its jws alone; - reads standard input.")
    ],
    key: Annotated[
        Path | None, typer.Option(help="The server's /.well-known/satmeter.json, saved when you began to trust it.")
    ] = None,
    key_id: Annotated[
        str | None, typer.Option("--key-id", help="The id (`kid`) of the server's key; replaces --key.")
    ] = None,
    request: Annotated[Path | None, typer.Option(help="What you asked, byte for byte.")] = None,
    answer: Annotated[Path | None, typer.Option(help="What was answered, byte for byte.")] = None,
) -> None:
    """Check a receipt's signature, its price, and that it is of this request and answer. Exit status 1 if it is not."""
    from .quote import MismatchError
    from .receipt import check_digest, check_price, jws_of, keys_in, verified
    from .usage import check_answer, check_usage, why_another

    if key is None and key_id is None:
        typer.echo(
            "Whose receipt should it be? Give --key or --key-id: anybody can sign with a key of their own.", err=True
        )
        raise typer.Exit(2)
    try:
        jws, shown = jws_of(_read(file))
        receipt = verified(jws, {} if key is None else keys_in(_read(key)), key_id)
        if shown is not None and shown != receipt:
            raise MismatchError("What the file shows is not what was signed in it.")
        if request is not None:
            check_digest(receipt, "requestSha256", _read(request), "request")
        if answer is not None:
            given = _read(answer)
            try:
                given = check_digest(receipt, "answerSha256", given, "answer")
            except MismatchError as error:
                raise MismatchError(why_another(receipt, given) or str(error)) from None
            check_answer(receipt, given)
        check_price(receipt)
        findings = check_usage(receipt)
    except MismatchError as error:
        _fail(str(error))
    subject = receipt.get("jobId") or receipt.get("requestId")
    _say(f"Signed by {receipt['keyId']}: {subject}, {receipt.get('state')} at {receipt.get('at')}.")
    _say(f"Charged {receipt['chargedMsat']} msat, which is the price by the rates and tokens in it.")
    for finding in findings:
        _say(finding)


@app.command("quote")
def quote_(
    file: Annotated[Path, typer.Argument(help="A saved JobStatus (GET /jobs/{jobId}); - reads standard input.")],
) -> None:
    """Check that a job's price is the one to which its work invoice commits. The exit status is 1 when it is not."""
    from .quote import MismatchError, check_quote

    try:
        _say(check_quote(_object(file)))
    except MismatchError as error:
        _fail(str(error))


def _object(file: Path) -> dict[str, Any]:
    """Return the JSON object in the file, with exact fractions."""
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
    _say(message, err=True)
    raise typer.Exit(1)


def _say(text: str, *, err: bool = False) -> None:
    """Print a line, with a mark for each character that moves the cursor or begins a line.

    A file's writer could otherwise write the words of a receipt that was verified.
    """
    typer.echo("".join(char if char.isprintable() else "?" for char in text), err=err)
