"""Stored state of a client: the session's credential, and payments with a known or unknown outcome.

The state is written before anything is paid. Only its owner can read the file (0600). It is replaced as a whole, and is
on disk before the call that changes it returns; processes that share it take turns by a lock file beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from .errors import SessionFileError
from .models import Invoice

_VERSION: Final = 1


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """The credential of a session. The macaroon is money: it is left out of the repr."""

    session_id: str
    macaroon: str
    deposit: Invoice | None = None

    def __repr__(self) -> str:
        return f"Credential(session_id={self.session_id!r})"


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that was begun and is not known to have arrived. `purpose` is the id of its session or job.

    by_hand: a person was shown the invoice, and no program pays it later. paid: the wallet reports it as paid.
    pending_at: when the wallet's order ended, or the wallet last reported it as pending, to a few minutes.
    """

    invoice: Invoice
    purpose: str
    begun_at: datetime
    by_hand: bool = False
    paid: bool = False
    pending_at: datetime | None = None

    @property
    def open_since_s(self) -> float:
        """The Unix time, in seconds, since which the wallet has reported it only as failed or unknown."""
        return (self.pending_at or self.begun_at).timestamp()


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a client. `former` are sessions that are over and may still owe something. `paid_sats` arrived."""

    server: str
    version: int = _VERSION
    session: Credential | None = None
    former: list[Credential] = []
    paid_sats: int = 0
    under_way: list[Payment] = []

    @property
    def committed_sats(self) -> int:
        """Sats paid, including payments with an unknown outcome."""
        return self.paid_sats + sum(payment.invoice.amount_sats for payment in self.under_way)


class Store(Protocol):
    """The store of a client's state."""

    def read(self) -> State:
        """Return the state. Raises `SessionFileError`."""
        ...

    def change(self, change: Callable[[State], State]) -> State:
        """Replace the state, durably when this returns. Raises `SessionFileError`, and what `change` raises."""
        ...

    def try_lock(self) -> bool:
        """Take the right to pay, unless another process has it."""
        ...

    def unlock(self) -> None:
        """Give the right to pay back."""
        ...


class MemoryStore:
    """State in memory, for this process alone."""

    def __init__(self, server: str) -> None:
        self._state = State(server=server)
        self._lock = threading.Lock()

    def read(self) -> State:
        """Return the state."""
        return self._state

    def change(self, change: Callable[[State], State]) -> State:
        """Replace the state. Raises what `change` raises."""
        with self._lock:
            self._state = change(self._state)
            return self._state

    def try_lock(self) -> bool:
        """Return True: no other process shares this store."""
        return True

    def unlock(self) -> None:
        """Do nothing, as `try_lock` takes no lock."""


class FileStore:
    """State in a file."""

    def __init__(self, path: str | os.PathLike[str], server: str) -> None:
        self.path: Final = Path(path).expanduser()
        self._server = server
        self._lock = threading.Lock()
        self._paying: int | None = None

    def read(self) -> State:
        """Return the state in the file, or an empty one without a file. Raises `SessionFileError`."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return State(server=self._server)
        except OSError as error:
            raise SessionFileError(f"{self.path} can't be read: {error.strerror}.") from None
        try:
            state = msgspec.json.decode(text, type=State)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise SessionFileError(f"{self.path} is not a session file of this version: name another one.") from None
        if state.version != _VERSION:
            raise SessionFileError(f"{self.path} was written by another version of Satmeter: name another one.")
        if state.server != self._server:
            # Its macaroon is money at that server, and must not be sent to another one.
            raise SessionFileError(f"{self.path} belongs to {state.server}: name another file for {self._server}.")
        return state

    def change(self, change: Callable[[State], State]) -> State:
        """Replace the file. Raises `SessionFileError`, and what `change` raises."""
        with self._lock, self._locked("lock"):
            state = change(self.read())
            try:
                self._write(state)
            except OSError as error:
                raise SessionFileError(f"{self.path} can't be written: {error.strerror}.") from None
            return state

    def try_lock(self) -> bool:
        """Take the right to pay, unless another process has it. Raises `SessionFileError`."""
        import fcntl

        lock = self._open_lock("paying")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._paying = lock
        return True

    def unlock(self) -> None:
        """Give the right to pay back."""
        if self._paying is not None:
            os.close(self._paying)
            self._paying = None

    def _write(self, state: State) -> None:
        # A temporary file is made with 0600, and renaming keeps that.
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        import fcntl

        lock = self._open_lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _open_lock(self, name: str) -> int:
        # The lock is a separate file: the session file is replaced, so a lock on it would be on the former one.
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(f"{self.path}.{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SessionFileError(f"{self.path} can't be locked: {error.strerror}.") from None


def replaced(state: State, **changes: Any) -> State:
    """Return the state with these changes."""
    return msgspec.structs.replace(state, **changes)
