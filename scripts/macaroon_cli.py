"""`satmeter macaroon`: inspects and narrows macaroons offline, without a server or a key."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer

app = typer.Typer(help="Look at a macaroon, or narrow it for somebody else. Works offline.", no_args_is_help=True)

Token = Annotated[str, typer.Argument(help="The macaroon; - reads it from standard input.")]


@app.command("inspect")
def inspect_(macaroon: Token) -> None:
    """Show what a macaroon is for and what it allows. Its signature can only be checked by the server."""
    from rich.console import Console
    from rich.table import Table

    from ..actors.domain.credentials.macaroon import InvalidMacaroonError, OversizedMacaroonError, read

    token = _token(macaroon)
    try:
        macaroon_id, caveats = read(token)
        allows = _allows(token)
    except OversizedMacaroonError as error:
        _fail(f"A server refuses this. {error}.")
    except InvalidMacaroonError as error:
        _fail(f"This is not a macaroon of a Satmeter server: {error}.")
    table = Table.grid(padding=(0, 2))
    table.add_row("session", macaroon_id.session_id)
    table.add_row("payment hash", macaroon_id.payment_hash)
    for caveat in caveats:
        table.add_row("caveat", f"{caveat}{_remark(caveat)}")
    if not caveats:
        table.add_row("caveats", "none: it allows everything")
    table.add_row("allows", allows)
    Console(soft_wrap=True).print(table, highlight=False, markup=False)


@app.command("attenuate")
def attenuate_(
    macaroon: Token,
    caveat: Annotated[
        list[str] | None,
        typer.Argument(help='What to append, e.g. "max_msat = 50000" "actions = request" "expires_at = 1800000000".'),
    ] = None,
    max_msat_per: Annotated[
        list[str] | None,
        typer.Option(help='A budget that renews at whole UTC hours, days or weeks: "50000/day".', metavar="N/PERIOD"),
    ] = None,
) -> None:
    """Print the macaroon narrowed by these caveats. Nobody can take them off again."""
    from ..actors.domain.credentials.caveats import CaveatError
    from ..actors.domain.credentials.macaroon import InvalidMacaroonError, OversizedMacaroonError, narrowed

    caveats = [*(caveat or ()), *(f"max_msat_per = {budget}" for budget in max_msat_per or ())]
    if not caveats:
        _fail('Say what to append, e.g. "max_msat = 50000", or --max-msat-per 50000/day.')
    for text in caveats:
        if not _is_known(text):
            _fail(
                f"{text!r} is not a caveat that a server accepts. There are expires_at, max_msat, "
                'max_msat_per_request, actions and name, each as "name = value", and "max_msat_per = 50000/day" '
                "(or hour, or week)."
            )
    try:
        typer.echo(narrowed(_token(macaroon), caveats))
    except (OversizedMacaroonError, CaveatError) as error:
        _fail(f"The server would refuse the result. {str(error).rstrip('.')}.")
    except InvalidMacaroonError as error:
        _fail(f"This is not a macaroon: {error}.")


def _token(argument: str) -> str:
    return sys.stdin.read().strip() if argument == "-" else argument


def _allows(token: str) -> str:
    """Return the actions that all caveats together allow, or why they allow nothing."""
    from ..actors.domain.credentials.caveats import Action, CaveatError
    from ..actors.domain.credentials.macaroon import read_grant

    try:
        _, grant = read_grant(token)
    except CaveatError as error:
        return f"nothing: {error}"
    actions = [action.value for action in Action if grant.actions is None or action in grant.actions]
    return ", ".join(actions) or "nothing: its lists of actions have none in common"


def _is_known(caveat: str) -> bool:
    from ..actors.domain.credentials.caveats import Grant, UnknownCaveatError, narrow

    try:
        # Arguments that are not UTF-8 have surrogates, which stand for the shell's bytes.
        narrow(Grant(generation=0), caveat.encode(errors="surrogateescape"), counter="")
    except UnknownCaveatError:
        return False
    return True


def _remark(caveat: str) -> str:
    if not _is_known(caveat):
        return "  (unknown: the server will refuse this macaroon)"
    name, _, value = caveat.partition("=")
    if name.strip() == "expires_at":
        try:
            return f"  ({datetime.fromtimestamp(int(value), UTC):%Y-%m-%d %H:%M:%S} UTC)"
        except (ValueError, OverflowError, OSError):
            return "  (in a very distant future)"
    return ""


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
