"""Launcher, the first process of `satmeter serve`: it starts the server, receives signals, and ends everything.

The server itself can't: libraries block it while they connect, and end it in ways that no exception handler sees.
This process imports almost nothing, so that it stays small and reacts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ...config.log_entry import entry, is_for_people
from ...config.private_dir import ROOT, prefix_of
from ..processes import adopt_orphans, descendants, end
from .environment import LAUNCHED_BY, without_secrets

# The exit status of a server that could not start, and might at another try (EX_TEMPFAIL of sysexits.h).
TRY_AGAIN: Final = 75
_TRIES_MAX: Final = 5
# From the first signal: 15 s are promised, and a server that has not begun to serve has nothing to finish.
_ENDS_WITHIN_S: Final = 13.5
_UNSERVING_ENDS_WITHIN_S: Final = 6.0
# The time for remaining processes after the server has reported its end.
_EXITS_WITHIN_S: Final = 2.0
_KILLED_WITHIN_S: Final = 5.0
# A program that started this one may pass on a Ctrl-C that the terminal has sent here as well.
_SAME_SIGNAL_S: Final = 0.2
_FILES_MAX: Final = 65_536
_FORCED: Final = "Ending it by force. What was under way goes on at the next start."
_ORDERLY: Final = frozenset({"server_stopping", "server_stopped"})
_LOOK_EVERY_S: Final = 0.05


def launch(arguments: Sequence[str]) -> int:
    """Run `satmeter` with these arguments as a server in a child process; return the exit status."""
    raise_file_limit()
    adopt_orphans()
    return Launch([sys.executable, "-m", "satmeter.scripts.cli", *arguments]).run()


def raise_file_limit() -> None:
    """Raise the limit of open files of this process and its children as far as the system allows, up to 65,536."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Launch:
    """The run of one server from its start to its end, over up to five tries."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        ends_within_s: float = _ENDS_WITHIN_S,
        unserving_ends_within_s: float = _UNSERVING_ENDS_WITHIN_S,
        say: Callable[[str, str], None] | None = None,
    ) -> None:
        self._command = command
        self._ends_within_s = ends_within_s
        self._unserving_ends_within_s = unserving_ends_within_s
        self._say = say or _say
        self._signalled: list[int] = []
        self._told: tuple[int, float] | None = None
        self._deadline_s: float | None = None
        self._serving = self._listening = False
        self._status: int | None = None

    def run(self) -> int:
        """Start it, pass signals on, and return its exit status once no process of it is left."""
        wakeup, self._wakeup = os.pipe()
        for fd in (wakeup, self._wakeup):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:  # Under nohup.
                signal.signal(signum, self._note)
        status = TRY_AGAIN
        for number in range(1, _TRIES_MAX + 1):
            status = self._try_once(wakeup)
            if status != TRY_AGAIN or self._told is not None:
                break
            if number < _TRIES_MAX:
                self._say("start_repeated", f"Trying again, {number + 1} of {_TRIES_MAX} ...")
        else:
            text = "Giving up: nothing was lost. Start it again when the machine has more time or memory to spare."
            self._say("start_given_up", text)
            status = 1
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)  # Later signals must not change the status.
        # A start that failed after a signal to end counts as a successful end.
        status = 0 if status == TRY_AGAIN else status
        if self._told is not None and status == 0:
            self._say("server_stopped", f"Stopped after {time.monotonic() - self._told[1]:.1f} s.")
        return status

    def _note(self, signum: int, _frame: object) -> None:
        if signum != signal.SIGCHLD:
            self._signalled.append(signum)

    def _try_once(self, wakeup: int) -> int:
        self._serving, self._listening, self._status = False, False, None
        if self._told is None:
            self._deadline_s = None
        lifeline_read, self._lifeline = os.pipe()
        reports, report_write = os.pipe()
        secrets_read, secrets_write = os.pipe()
        os.set_blocking(reports, False)
        environment, secrets = without_secrets(os.environ)
        child = subprocess.Popen(
            self._command,
            env={**environment, LAUNCHED_BY: f"{lifeline_read},{report_write},{secrets_read}"},
            stdin=subprocess.DEVNULL,
            pass_fds=(lifeline_read, report_write, secrets_read),
            # Ctrl-C reaches a whole process group. Only the launcher may act on it.
            start_new_session=True,
        )
        os.close(lifeline_read)
        os.close(report_write)
        os.close(secrets_read)
        _pass_on(secrets_write, secrets)
        try:
            if self._told is not None:
                self._tell(child)  # The signal came between two tries.
            forced = self._watch(child, wakeup, reports)
            family = descendants(os.getpid())
            self._end_all(child, family)
        finally:
            os.close(self._lifeline)
            os.close(reports)
        _clear_away(child.pid)
        return self._outcome(child, forced=forced)

    def _watch(self, child: subprocess.Popen[bytes], wakeup: int, reports: int) -> bool:
        """Return False when the child has ended, and True when it has to be killed."""
        while True:
            select.select([wakeup, reports], [], [], self._wait_s())
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 1_024)
            self._read(reports)
            if child.poll() is not None:
                return False
            _reap_orphans(child.pid)
            if self._hear(child):
                self._say("server_forced", _FORCED)
                return True
            if self._deadline_s is not None and time.monotonic() > self._deadline_s:
                if self._status is not None:
                    return False  # The server has ended everything; only Python is left.
                self._say("server_forced", f"It has not ended by itself. {_FORCED}")
                return True

    def _wait_s(self) -> float | None:
        return None if self._deadline_s is None else max(0.0, self._deadline_s - time.monotonic()) + 0.001

    def _hear(self, child: subprocess.Popen[bytes]) -> bool:
        """Pass the first signal on; return True after another one."""
        while self._signalled:
            signum, now_s = self._signalled.pop(0), time.monotonic()
            if self._told is not None:
                if now_s - self._told[1] > _SAME_SIGNAL_S:
                    return True
                continue
            self._told = signum, now_s
            self._say("server_stopping", "Stopping … (again to force)")
            self._deadline_s = now_s + (self._ends_within_s if self._serving else self._unserving_ends_within_s)
            self._tell(child)
        return False

    def _tell(self, child: subprocess.Popen[bytes]) -> None:
        """Ask the server to end: by the pipe once it listens there, as Ray's C++ code may catch a signal."""
        if not self._listening:
            child.terminate()
            return
        with contextlib.suppress(OSError):
            os.write(self._lifeline, b"stop\n")

    def _read(self, reports: int) -> None:
        with contextlib.suppress(BlockingIOError, ValueError):
            for line in os.read(reports, 65_536).splitlines():
                report = json.loads(line)
                self._serving = report.get("serving", self._serving)
                self._listening = report.get("listening", self._listening)
                if "status" in report:
                    self._status = report["status"]
                    self._deadline_s = time.monotonic() + _EXITS_WITHIN_S

    def _end_all(self, child: subprocess.Popen[bytes], family: Mapping[int, object]) -> None:
        """Kill the remaining processes of the server, and those that they have started meanwhile."""
        deadline_s = time.monotonic() + _KILLED_WITHIN_S
        while family and time.monotonic() < deadline_s:
            end(family)
            child.poll()
            _reap_orphans(child.pid)
            time.sleep(_LOOK_EVERY_S)
            family = descendants(os.getpid())
        child.poll()

    def _outcome(self, child: subprocess.Popen[bytes], *, forced: bool) -> int:
        if forced:
            assert self._told is not None
            return 128 + self._told[0]
        if self._status is not None:
            return self._status
        status = child.returncode
        if status is None or status >= 0:
            return 1 if status is None else status
        if self._told is not None:
            return 0 if -status == signal.SIGTERM else 1  # The server had not yet begun to handle signals.
        name = signal.Signals(-status).name
        memory = ": is there enough memory?" if -status == signal.SIGKILL else ""
        self._say("server_killed", f"The server's main process was ended by {name}{memory}")
        return 1 if self._serving else TRY_AGAIN


def _pass_on(pipe: int, secrets: Mapping[str, str]) -> None:
    """Write the secrets for the server, which reads them at its start. A server that has ended reads nothing."""
    with contextlib.suppress(OSError), os.fdopen(pipe, "wb") as file:
        file.write(json.dumps(secrets).encode())


def _reap_orphans(child_pid: int) -> None:
    """Reap ended processes that have lost their parent; the child itself is left to its `Popen`."""
    with contextlib.suppress(ChildProcessError):
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid == child_pid:
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def _clear_away(pid: int) -> None:
    """Remove the Ray directory of this server, in case it had no time for that."""
    for path in Path(ROOT).glob(f"{prefix_of(pid)}*"):
        shutil.rmtree(path, ignore_errors=True)


def _say(event: str, text: str) -> None:
    """Tell the operator: in words on a terminal, else as an entry of the log, as the server's own are."""
    level = "info" if event in _ORDERLY else "warning"
    line = text if is_for_people(terminal=os.isatty(2)) else entry(level, event, "launcher", text)
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
