"""Load test of a running server with many sessions, and a check of its books afterwards (`satmeter load`).

It knows the server by HTTP alone, as any client does.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from ..http_client import Origin, Pool
from .api import Server
from .check import check_books
from .opening import KeptFile, Opening
from .options import LoadError, Options
from .plot import plot
from .progress import Progress, load_line
from .refund import refund_all
from .report import Report, add_load, encode, plan_of, show
from .runner import Load
from .wallets import LnbitsWallet, Payer, StubPayer

# Files beside the connections: the event loop's own, the output, the lookups of names.
_OTHER_FILES: Final = 64
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# From the second signal on, the operator's patience is at an end: the answers are not awaited any more.
_ABANDONS: Final = 2
_INTERRUPTED: Final = 130


class LoadTest:
    """One load test, from the opening of its sessions to its report."""

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._progress = Progress(console)
        self._run_id = secrets.token_hex(6)
        self._pool = Pool(Origin.parse(options.url), options.in_flight_max, options.timeout_s)
        self._server = Server(self._pool)
        self._stop = asyncio.Event()
        self._ends = 0
        self._main: asyncio.Task[object] | None = None
        self._load: Load | None = None
        self._wallet: LnbitsWallet | None = None
        if options.lnbits_url is not None:
            self._wallet = LnbitsWallet(Pool(Origin.parse(options.lnbits_url), 8, options.timeout_s), options.admin_key)

    def end(self) -> None:
        """End the load early; asked a second time, also the wait for its answers; a third time, everything."""
        self._ends += 1
        self._stop.set()
        if self._load is not None:
            self._load.interrupt()
        if self._ends == _ABANDONS and self._load is not None:
            self._load.abandon()
        if self._ends > _ABANDONS and self._main is not None:
            self._main.cancel()

    async def run(self) -> Report:
        """Run the test and return its report. Raises `LoadError` when nothing could be begun."""
        options = self._options
        self._main = asyncio.current_task()
        await self._server.check()
        if self._wallet is not None:
            await self._wallet.check(options.sessions * options.deposit_sats)
        kept = self._keep()
        opening = Opening(self._server, self._payer(), kept, self._stop)
        report = Report(
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            plan=plan_of(options),
            sessions_open=0,
            opening_s=0.0,
            interrupted=False,
            failure=None,
        )
        try:
            await self._open(opening, report)
            if opening.holders and report.failure is None and not self._stop.is_set():
                await self._put_under_load(opening, report)
            report.interrupted = self._stop.is_set()
            await self._settle(opening, report)
        finally:
            self._pool.close()
            if kept is not None:
                self._dispose(kept, opening, report)
        return report

    async def _open(self, opening: Opening, report: Report) -> None:
        began_s = time.monotonic()
        what = f"Opening {self._options.sessions:,} sessions"
        try:
            async with self._progress.showing(what, lambda: f"{len(opening.holders):,} active"):
                await opening.run(self._options.sessions, self._options.deposit_sats, self._run_id)
        except LoadError as error:
            report.failure = str(error)
        report.sessions_open = len(opening.holders)
        report.opening_s = round(time.monotonic() - began_s, 3)

    async def _put_under_load(self, opening: Opening, report: Report) -> None:
        load = self._load = Load(self._server, opening.holders, self._options, self._run_id)
        async with self._progress.showing(f"Load for {self._options.duration_s:g} s", lambda: load_line(load)):
            await load.run()
        add_load(report, load, stream=self._options.stream)

    async def _settle(self, opening: Opening, report: Report) -> None:
        """Check the books, and have the rest paid back; then the books must close again."""
        holders, checked = opening.holders, 0

        def done(count: int) -> None:
            nonlocal checked
            checked = count

        async def check(what: str) -> None:
            async with self._progress.showing(what, lambda: f"{checked:,} of {len(holders):,}"):
                report.books = await check_books(self._server, holders, done)

        try:
            await check("Checking the books")
            if self._wallet is not None and self._options.refund:
                async with self._progress.showing("Closing the sessions", lambda: "refunds are on their way"):
                    report.refunds = await refund_all(self._server, self._wallet, holders, self._run_id)
                if report.books is not None and report.books.close:
                    await check("Checking the books again")
        except LoadError as error:
            report.books = None
            report.failure = report.failure or f"The books could not be checked: {error}"
        closed = report.books is not None and report.books.close
        refunded = report.refunds is None or not report.refunds.failed
        report.exit_status = 0 if closed and refunded and report.failure is None else 1

    def _payer(self) -> Payer:
        return StubPayer(self._server) if self._wallet is None else self._wallet

    def _keep(self) -> KeptFile | None:
        """Open the file for the macaroons, if there is to be one.

        Where real money is at stake they are always kept, until all of it is back.
        """
        path = self._options.keep
        if path is None and self._wallet is not None:
            path = Path(f"satmeter-load-{self._run_id}.jsonl")
        return KeptFile(path) if path is not None else None

    def _dispose(self, kept: KeptFile, opening: Opening, report: Report) -> None:
        refunds = report.refunds
        all_back = refunds is not None and not refunds.failed and not opening.lost
        if self._options.keep is None and all_back:
            kept.remove()
        else:
            kept.close()
            report.kept_in = str(kept.path)


def run(options: Options) -> int:
    """Carry the test out, print and write what it found, and return the exit status."""
    # Nothing else may go to standard output where the JSON does.
    out, err = Console(stderr=options.json_to == "-", soft_wrap=True, highlight=False), Console(stderr=True)
    try:
        _allow_files(options.in_flight_max)
        report = uvloop.run(_run(options, err))
        show(report, out)
        _write(options, report)
    except LoadError as error:
        err.print(str(error), style="bold red", highlight=False, markup=False, soft_wrap=True)
        return 1
    except asyncio.CancelledError:
        err.print("Ended at once: the books were not checked.", style="bold red")
        return _INTERRUPTED
    return report.exit_status


async def _run(options: Options, console: Console) -> Report:
    test = LoadTest(options, console)
    with _signals(test):
        return await test.run()


@contextmanager
def _signals(test: LoadTest) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for signum in _SIGNALS:
        loop.add_signal_handler(signum, test.end)
    try:
        yield
    finally:
        for signum in _SIGNALS:
            loop.remove_signal_handler(signum)


def _allow_files(connections: int) -> None:
    """Let this process have this many connections. Raises `LoadError` when it may not."""
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise LoadError(
                f"{connections} requests in flight need {needed} open files, and this process may have {hard}: lower "
                "--in-flight, or raise the limit (ulimit -n)."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _write(options: Options, report: Report) -> None:
    try:
        if options.json_to == "-":
            sys.stdout.buffer.write(encode(report))
            sys.stdout.buffer.flush()
        elif options.json_to is not None:
            Path(options.json_to).write_bytes(encode(report))
        if options.plot is not None:
            options.plot.write_text(plot(report), encoding="utf-8")
    except OSError as error:
        raise LoadError(f"{error.filename or 'Standard output'} can't be written: {error.strerror}.") from None
