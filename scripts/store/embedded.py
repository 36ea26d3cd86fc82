"""Embedded store: a Valkey server as a supervised child process on a unix socket, for one machine.

Every write is on disk before it is acknowledged (`appendfsync always`), so the store may be killed at any moment
without losing what it acknowledged. It listens on no port.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from ...actors.domain.backoff import Backoff
from ..processes import dying_with_us, ending_of
from .binary import StoreError, find_binary
from .disk_space import lacks_room, until_room
from .lock import DataDirLock, end_orphan, in_use, process_mark

__all__ = ["EmbeddedStore", "StoreError"]

# macOS ends socket paths at 103 bytes, Linux at 107.
_SOCKET_PATH_BYTES_MAX: Final = 103
# The end of a store is noticed at once, but on a busy machine a living one may be slow.
_ANSWERS_WITHIN_S: Final = 120.0
_LOCK_POLL_S: Final = 0.05
_LOADS_WITHIN_S: Final = 600.0
_POLL_S: Final = 0.005
_STOPS_WITHIN_S: Final = 5.0
_BACKOFF_MIN_S: Final = 0.05
_BACKOFF_MAX_S: Final = 5.0
# A store that lived this long did not die of its start, so the next one is started without a long wait.
_STEADY_AFTER_S: Final = 10.0
_URL_FILE: Final = "store.url"
_LOG_TAIL_BYTES: Final = 2_000

_log = structlog.get_logger(__name__)


class EmbeddedStore:
    """One Valkey server over `<data_dir>/store`, with the data directory locked against a second one.

    Call `start` from the main thread: on Linux the store dies with the *thread* that started it (prctl(2)), which is
    what ends it when this process is killed. Elsewhere the next `start` ends the store of a killed server.
    """

    def __init__(self, data_dir: Path, lock_within_s: float = 0.0) -> None:
        """`lock_within_s` is how long to wait for a server that is ending and still has the directory."""
        self._data_dir = data_dir.resolve()
        self._lock_within_s = lock_within_s
        self._dir = self._data_dir / "store"
        self._log_file = self._data_dir / "store.log"
        self._lock = DataDirLock(self._data_dir)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._socket_dir: Path | None = None
        self._socket = self._dir / "valkey.sock"
        self._program = Path()

    @property
    def directory(self) -> Path:
        """The directory of the store's files."""
        return self._dir

    @property
    def pid(self) -> int | None:
        """The store's process id, None while none runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> str:
        """Start the store and return its URL once it answers; the URL stays the same over restarts.

        Raises `StoreError` when the directory is in use, the disk is full, no program is found, or it does not come up.
        """
        self._stopping = False
        self._program = find_binary()
        # Keys and journals are in there, so no other user of the machine may read them.
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._dir.mkdir(mode=0o700, exist_ok=True)
        if lacks_room(self._dir):
            raise StoreError(f"The disk is full: make room for {self._data_dir}, or move it to another disk.")
        await self._take_lock()
        try:
            await asyncio.to_thread(end_orphan, self._pid_file, process_mark(self._dir))
            self._choose_socket()
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        url = f"unix://{quote(str(self._socket))}"
        (self._data_dir / _URL_FILE).write_text(url)
        return url

    async def watch(self) -> None:
        """Restart the store whenever it dies, until `stop` or cancellation. Never gives up, never raises.

        While the disk is full it waits.
        """
        backoff = Backoff(_BACKOFF_MIN_S, _BACKOFF_MAX_S)
        while not self._stopping:
            if self._process is not None:
                since = time.monotonic()
                status = await self._process.wait()
                if self._stopping:
                    return
                _log.error("store_ended", **ending_of(status), log_file=str(self._log_file), hint="it is started again")
                if time.monotonic() - since > _STEADY_AFTER_S:
                    backoff.reset()
            await asyncio.sleep(backoff.next())
            await until_room(self._dir, lambda: self._stopping)
            await self._relaunch()

    async def stop(self) -> None:
        """Stop the store and release the data directory. May be called twice."""
        self._stopping = True
        await self._end_process()
        if self._lock.held:
            (self._data_dir / _URL_FILE).unlink(missing_ok=True)
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
        self._lock.release()

    async def _relaunch(self) -> None:
        if self._stopping:
            return
        try:
            await self._launch()
            _log.info("store_restarted")
        except StoreError as error:
            if not self._stopping:
                _log.error("store_not_restarted", error=str(error))

    async def _take_lock(self) -> None:
        deadline_s = time.monotonic() + self._lock_within_s
        while True:
            try:
                return self._lock.acquire()
            except StoreError:
                if time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(_LOCK_POLL_S)

    @property
    def _pid_file(self) -> Path:
        return self._dir / "valkey.pid"

    def _choose_socket(self) -> None:
        self._socket = self._dir / "valkey.sock"
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_BYTES_MAX:
            # mkdtemp makes it accessible to this user only, which is the only protection of a socket.
            self._socket_dir = Path(tempfile.mkdtemp(prefix="satmeter-", dir="/tmp"))
            self._socket = self._socket_dir / "valkey.sock"

    async def _launch(self) -> None:
        self._socket.unlink(missing_ok=True)
        with self._log_file.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    self._program,
                    *self._options(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C reaches a whole process group; the store must outlive the servers that still write to it.
                    start_new_session=True,
                    preexec_fn=dying_with_us(),
                )
            except OSError as error:
                raise StoreError(
                    f"{self._program} can't be run ({error}): set REDIS_URL to a server of your own."
                ) from None
        try:
            if self._stopping:
                raise StoreError("The store was stopped while it started.")
            await self._until_ready(self._process)
        except BaseException:
            await self._end_process()
            raise

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._dir),
            "pidfile": str(self._pid_file),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "always",
            # A crash may cut the last write short. It was not acknowledged, so it is dropped, not an error.
            "aof-load-truncated": "yes",
            "save": "",
            # An evicted journal would be lost money: rather refuse writes.
            "maxmemory-policy": "noeviction",
            "proc-title-template": "{title} " + process_mark(self._dir),
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        started = time.monotonic()
        answers_by, loads_by = started + _ANSWERS_WITHIN_S, started + _LOADS_WITHIN_S
        client = Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0))
        try:
            while process.returncode is None:
                try:
                    await asyncio.wait_for(client.ping(), _ANSWERS_WITHIN_S)
                    return
                except BusyLoadingError:
                    deadline = loads_by
                except (RedisError, OSError, TimeoutError):
                    deadline = answers_by
                if time.monotonic() > deadline:
                    raise StoreError(f"The store did not get ready in time. {self._log_tail()}")
                await asyncio.sleep(_POLL_S)
        finally:
            # A close that is cancelled before its first step would leave the connection open.
            await asyncio.shield(client.aclose())
        raise StoreError(f"The store ended at once, with status {process.returncode}. {self._log_tail()}")

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is not None:
                return
            try:
                process.send_signal(signal_number)
                await asyncio.wait_for(process.wait(), _STOPS_WITHIN_S)
            except (ProcessLookupError, TimeoutError):
                continue

    def _log_tail(self) -> str:
        tail = self._log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return f"The end of its log ({self._log_file}):\n{tail}"


def running_store_url(data_dir: Path) -> str | None:
    """Return the URL of the store that a server runs over this data directory; None without one, or if it was killed.

    In a copy of a directory the URL is that of the store of the original.
    """
    if not in_use(data_dir):
        return None
    try:
        url = (data_dir / _URL_FILE).read_text()
    except FileNotFoundError:
        return None
    return url if Path(unquote(url.removeprefix("unix://"))).is_socket() else None
