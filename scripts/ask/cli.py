"""Flags of `satmeter ask` and `satmeter mcp`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .wallet import LNBITS_KEY, LNBITS_URL, WalletKind

URL_DEFAULT = "http://127.0.0.1:8402"
_USAGE = 2
_REQUEST_CHARS_MAX = 100_000


SERVER = typer.Option("--server", envvar="SATMETER_URL", help="The server.")
SESSION_FILE = typer.Option(
    envvar="SATMETER_SESSION_FILE",
    help="Where the session is kept, for you alone; it is money (a file for each server in ~/.local/state/satmeter).",
    show_default=False,
    dir_okay=False,
)
WALLET = typer.Option(
    envvar="SATMETER_WALLET",
    help=f"What pays: you, by a QR code; LNbits, by its admin key ({LNBITS_URL}, {LNBITS_KEY}); or the stub node of a "
    "development server. auto: LNbits if it is set, else the stub if there is one, else the terminal.",
)
DEPOSIT = typer.Option(min=1, max=100_000_000, help="Sats to open a session with, and to top it up by.")


def ask(
    request: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")] = "",
    server: Annotated[str, SERVER] = URL_DEFAULT,
    model: Annotated[str | None, typer.Option(help="The model, one of those in /pricing (the server's own).")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    max_sats: Annotated[int | None, typer.Option(min=1, help="The most sats that this request may cost.")] = None,
    budget: Annotated[
        int, typer.Option(min=0, envvar="SATMETER_BUDGET_SATS", help="The most sats ever paid from this session file.")
    ] = 2_000,
    deposit: Annotated[int, DEPOSIT] = 500,
    wallet: Annotated[WalletKind, WALLET] = WalletKind.AUTO,
    session_file: Annotated[Path | None, SESSION_FILE] = None,
    close: Annotated[
        bool, typer.Option("--close", help="Afterwards, or without a request at once, have what is left paid back.")
    ] = False,
    refund_to: Annotated[
        str | None,
        typer.Option(help="With --close: the Lightning address or LNURL that it goes to."),
    ] = None,
    qr: Annotated[
        bool, typer.Option("--qr", help="With --close: show a code instead, by which a phone fetches the rest.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing of the cost.")] = False,
) -> None:
    """Ask a model, and pay by the token: the answer goes to standard output, what it cost to standard error.

    The first request opens a session and pays its deposit, later ones spend from it. Exit status: 0 answered, 1 no
    answer, 2 wrong usage, 3 the request was rejected, 4 not paid (budget, wallet, or outcome unknown), 130 Ctrl-C.
    """
    text = sys.stdin.read() if request == "-" else request
    if not text.strip() and not close:
        _refuse('Say what to ask: satmeter ask "Name three uses of a sextant.", or - to read it from standard input.')
    if (refund_to is not None or qr) and not close:
        _refuse("--refund-to and --qr are for a session that is closed: give --close, too.")
    if refund_to is not None and qr:
        _refuse("The rest goes to the address of --refund-to or to a phone by --qr: give one of them.")
    if len(text) > _REQUEST_CHARS_MAX:
        _refuse(f"The request has {len(text)} characters, and at most {_REQUEST_CHARS_MAX} can be asked.")
    # Imported last, as it loads the whole client: wrong flags are reported at once.
    from .ask import Question, run

    question = Question(
        server=server,
        request=text if text.strip() else None,
        model=model,
        max_tokens=max_tokens,
        max_sats=max_sats,
        budget_sats=budget,
        deposit_sats=deposit,
        wallet=wallet,
        session_file=session_file or default_file(server),
        close=close,
        refund_to=refund_to,
        qr=qr,
        quiet=quiet,
    )
    raise typer.Exit(run(question))


def mcp(
    server: Annotated[str, SERVER] = URL_DEFAULT,
    budget_sats: Annotated[
        int,
        typer.Option(min=0, envvar="SATMETER_BUDGET_SATS", help="The most sats ever paid from this session file."),
    ] = 1_000,
    call_max_sats: Annotated[
        int, typer.Option(min=1, envvar="SATMETER_CALL_MAX_SATS", help="The most sats that one call may cost.")
    ] = 200,
    deposit: Annotated[int, DEPOSIT] = 500,
    wallet: Annotated[WalletKind, WALLET] = WalletKind.AUTO,
    session_file: Annotated[Path | None, SESSION_FILE] = None,
) -> None:
    """Run an MCP server on standard input and output, by which an agent asks and buys within your budget.

    It pays by LNbits or, on a development server, by the stub. Name it in your MCP client's configuration.
    """
    if wallet is WalletKind.TERMINAL:
        _refuse("--wallet terminal needs a person at a terminal: name LNbits in the environment for an agent.")
    from .mcp_server import run

    file = session_file or default_file(server, "mcp")
    raise typer.Exit(
        run(
            server,
            budget_sats=budget_sats,
            call_max_sats=call_max_sats,
            deposit_sats=deposit,
            kind=wallet,
            session_file=file,
        )
    )


def default_file(server: str, prefix: str = "session") -> Path:
    """Return the session file of a server, named after it."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        _refuse("There is no home directory for the session file: set HOME or XDG_STATE_HOME, or name --session-file.")
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in server.partition("://")[2].rstrip("/"))
    return Path(state) / "satmeter" / f"{prefix}-{name}.json"


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(_USAGE)
