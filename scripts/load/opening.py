"""Opening of a load test's sessions: open them, pay for them, and wait until they can be spent from."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ...actors.domain.backoff import Backoff
from .api import Holder, Server
from .options import LoadError
from .wallets import Payer

_ACTIVE_WITHIN_S: Final = 60.0
_ACTIVE_AFTER_FAILURE_S: Final = 5.0
_LOOK_FIRST_S: Final = 0.1
_LOOK_MAX_S: Final = 1.0
_LOOKING_AT_ONCE: Final = 32

T = TypeVar("T")


class KeptFile:
    """File of the sessions' ids and macaroons that only its owner can read, a JSON object on each line.

    It is written before anything is paid: a lost macaroon loses what its session holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except FileExistsError:
            raise LoadError(
                f"{path} exists, and may hold the macaroons of other sessions: name another file."
            ) from None
        except OSError as error:
            raise LoadError(f"{path} can't be written: {error.strerror}.") from None
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def add(self, holder: Holder) -> None:
        """Write one more session."""
        line = {"session_id": holder.session_id, "macaroon": holder.macaroon}
        self._file.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file: nothing in these sessions is of worth any more."""
        self.close()
        self.path.unlink(missing_ok=True)


class Opening:
    """Sessions as they come to be. `holders` are those that are paid for and active."""

    def __init__(self, server: Server, payer: Payer, kept: KeptFile | None, stop: asyncio.Event) -> None:
        self._server = server
        self._payer = payer
        self._kept = kept
        self._stop = stop
        self._paid: list[Holder] = []
        self.holders: list[Holder] = []

    @property
    def lost(self) -> int:
        """Number of sessions whose deposit may have been paid, and that are not active."""
        return len(self._paid) - len(self.holders)

    async def run(self, count: int, amount_sats: int, run_id: str) -> None:
        """Open `count` sessions, or fewer when it is stopped.

        Raises `LoadError` at the first that can't be opened. After a failure, the sessions that were paid for until
        then are still awaited: what is in them is to be paid back.
        """
        failure: LoadError | None = None

        async def open_and_pay(number: int) -> None:
            opened = await self._server.open(amount_sats, f"load-{run_id}-open-{number}")
            holder = Holder(opened.session_id, opened.macaroon)
            if self._kept is not None:
                self._kept.add(holder)
            # The holder is noted before the payment, which may succeed and yet raise.
            self._paid.append(holder)
            await self._payer.pay(opened.deposit_invoice)

        async def wait(holder: Holder) -> None:
            if await self._is_active(holder, _ACTIVE_WITHIN_S if failure is None else _ACTIVE_AFTER_FAILURE_S):
                holder.tally.paid_in_msat = amount_sats * 1_000
                self.holders.append(holder)
            elif failure is None:
                raise LoadError(
                    f"{holder.session_id} did not become active within {_ACTIVE_WITHIN_S:.0f} s after its deposit was "
                    "paid: look at the server's log, and at its Lightning node."
                )

        try:
            await each(
                (number for number in range(count) if not self._stop.is_set()), open_and_pay, self._payer.at_once
            )
        except LoadError as error:
            failure = error
        await each(self._paid, wait, _LOOKING_AT_ONCE)
        if failure is not None:
            raise failure

    async def _is_active(self, holder: Holder, within_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline_s, backoff = loop.time() + within_s, Backoff(_LOOK_FIRST_S, _LOOK_MAX_S)
        while (await self._server.show(holder)).state != "active":
            if loop.time() > deadline_s:
                return False
            await asyncio.sleep(backoff.next())
        return True


async def each(
    items: Iterable[T],
    work: Callable[[T], Coroutine[Any, Any, None]],
    at_once: int,
) -> None:
    """Do the work for each item, `at_once` at a time.

    The first failure lets those under way end, and is raised.
    """
    waiting = iter(items)
    failures: list[Exception] = []

    async def worker() -> None:
        for item in waiting:
            try:
                await work(item)
            except LoadError as error:
                failures.append(error)
            if failures:
                return

    await asyncio.gather(*(worker() for _ in range(at_once)))
    if failures:
        raise failures[0]
