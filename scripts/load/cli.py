"""The flags of `satmeter load`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ..output_files import writable
from .options import DEPOSIT_DEFAULT_SATS, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX, RATE_DEFAULT_PER_S, REQUESTS_MAX, Options

ADMIN_KEY = "SATMETER_LOAD_ADMIN_KEY"

_SESSIONS = typer.Option(min=1, max=20_000, help="Sessions, each with a deposit of its own.")
_RATE = typer.Option(
    min=0.01,
    max=50_000,
    help="Requests/s in all, due at fixed times whether or not earlier ones were answered (open loop; 50).",
    show_default=False,
)
_THINK = typer.Option(
    min=0,
    max=3_600,
    help="Instead of --rate: each session asks, waits for the answer, and thinks for this many seconds (closed loop).",
)
_DURATION = typer.Option(min=0.1, max=86_400, help="Seconds of load.")
_STREAM = typer.Option("--stream", help="Ask for streamed answers, and measure the time to the first text too.")
_DEPOSIT = typer.Option(
    min=1, max=100_000_000, help="Sats for each session (10000). Real ones, with --lnbits-url.", show_default=False
)
_MAX_TOKENS = typer.Option(min=1, max=1_000_000, help="Longest answer.")
_REQUEST = typer.Option(help="What is asked, every time.")
_IN_FLIGHT = typer.Option(
    min=1,
    max=IN_FLIGHT_MAX,
    help="Requests and connections at once; more wait (1000; with --think one for each session).",
    show_default=False,
)
_TIMEOUT = typer.Option(min=1, max=3_600, help="Seconds after which an answer counts as lost and is sent for again.")
_LNBITS = typer.Option(
    help=f"Pay the deposits from a wallet at this LNbits, with its admin key in {ADMIN_KEY}; without it, at the "
    "server's stub node."
)
_NO_REFUND = typer.Option(
    "--no-refund", help="With --lnbits-url: leave the sessions open instead of having the rest paid back."
)
_KEEP = typer.Option(help="Write the sessions' ids and macaroons there, a JSON object on each line, for you alone.")
_JSON = typer.Option("--json", help="Write everything there as JSON; - is standard output. See docs/load.md.")
_PLOT = typer.Option(help="Draw latency and throughput over time there, as SVG.")


def load(
    url: Annotated[str, typer.Argument(help="The server.")] = "http://127.0.0.1:8402",
    sessions: Annotated[int, _SESSIONS] = 50,
    rate: Annotated[float | None, _RATE] = None,
    think: Annotated[float | None, _THINK] = None,
    duration: Annotated[float, _DURATION] = 30.0,
    stream: Annotated[bool, _STREAM] = False,
    deposit: Annotated[int | None, _DEPOSIT] = None,
    max_tokens: Annotated[int, _MAX_TOKENS] = 200,
    request: Annotated[str, _REQUEST] = "Name three uses of a sextant.",
    in_flight: Annotated[int | None, _IN_FLIGHT] = None,
    timeout: Annotated[float, _TIMEOUT] = 120.0,
    lnbits_url: Annotated[str | None, _LNBITS] = None,
    no_refund: Annotated[bool, _NO_REFUND] = False,
    keep: Annotated[Path | None, _KEEP] = None,
    json: Annotated[str | None, _JSON] = None,
    plot: Annotated[Path | None, _PLOT] = None,
) -> None:
    """Put a running server under load with many sessions, and check its books afterwards.

    Latency counts from when a request was due. An answer that was lost, or is a 503 with Retry-After, is sent for again
    under the same Idempotency-Key. Ctrl-C ends the load early. The exit status is 1 when the books don't close. Start
    the server with SATMETER_RATE_LIMITS=off.
    """
    if rate is not None and think is not None:
        _refuse("--rate is the open loop and --think the closed one: give one of them.")
    _check_address("URL", url)
    if not request.strip() or len(request) > 100_000:
        _refuse("--request must have 1 to 100000 characters, not all of them blank.")
    if think is None and (rate or RATE_DEFAULT_PER_S) * duration > REQUESTS_MAX:
        _refuse(f"More than {REQUESTS_MAX} requests are more than can be remembered: lower --rate or --duration.")
    admin_key = _admin_key()
    if lnbits_url is not None:
        _check_address("--lnbits-url", lnbits_url)
        _check_secrecy("--lnbits-url", lnbits_url)
        _check_real_money(admin_key, deposit, no_refund=no_refund, kept=keep is not None)
    elif no_refund:
        _refuse("--no-refund goes with --lnbits-url: deposits at the stub node are never paid back.")
    # The import comes last, as it loads all that makes a client: errors in the flags are reported at once.
    from .load_test import run

    for path in (plot, Path(json) if json not in (None, "-") else None, keep):
        if path is not None and not writable(path):
            _refuse(f"{path} can't be written: name a file in a directory that exists and is yours.")
    raise typer.Exit(
        run(
            Options(
                url=url,
                sessions=sessions,
                rate_per_s=None if think is not None else rate or RATE_DEFAULT_PER_S,
                think_s=think,
                duration_s=duration,
                stream=stream,
                deposit_sats=deposit or DEPOSIT_DEFAULT_SATS,
                max_tokens=max_tokens,
                request=request,
                in_flight_max=in_flight or (IN_FLIGHT_DEFAULT if think is None else sessions),
                timeout_s=timeout,
                lnbits_url=lnbits_url,
                admin_key=admin_key,
                refund=not no_refund,
                keep=keep,
                json_to=json,
                plot=plot,
            )
        )
    )


def _admin_key() -> str:
    from ...config.secret_files import secret_of

    try:
        return secret_of(ADMIN_KEY, os.environ)
    except ValueError as error:
        _refuse(str(error))


def _check_real_money(admin_key: str, deposit: int | None, *, no_refund: bool, kept: bool) -> None:
    if not admin_key:
        _refuse(f"--lnbits-url needs the wallet's admin key in the environment variable {ADMIN_KEY}.")
    if not admin_key.isascii() or not admin_key.isprintable():
        _refuse(f"{ADMIN_KEY} is not a key: it has characters that no key has.")
    if deposit is None:
        _refuse("With --lnbits-url the deposits are real money: say how many sats each session gets, by --deposit.")
    if no_refund and not kept:
        _refuse("--no-refund would leave the rest in sessions whose macaroons are gone: add --keep FILE.")


def _check_address(name: str, url: str) -> None:
    from ..http_client import Origin

    try:
        Origin.parse(url)
    except ValueError as error:
        _refuse(f"{name}: {error}.")


def _check_secrecy(name: str, url: str) -> None:
    from ..preflight.transport_checks import PLAIN_HTTP, may_carry_keys, plain_http_allowed

    if not may_carry_keys(url, plain_http_allowed(os.environ)):
        _refuse(f"{name}: {PLAIN_HTTP}")


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
