"""Ends all that a test run has started when the run ends, however it ends: by SIGKILL, too.

The process that was asked to run the tests (the outer one) has them run in a grandchild, and a process between the two
kills whatever the grandchild leaves. Linux hands orphans to the nearest ancestor that asks for them (prctl(2),
PR_SET_CHILD_SUBREAPER), which both do, so that nothing below escapes by a fork or a session of its own: any one of the
three may be killed. Elsewhere the servers' own ways to end with who started them must do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

import pytest

_PR_SET_PDEATHSIG: Final = 1  # prctl(2), linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36
_SI_USER: Final = 0
# What a user, or a time limit, sends to the process that was started. The terminal sends to all of a group by itself.
_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
# Replaces itself by the command, once the kernel is told: a process that has threads must run no Python after a fork.
_WITH_US: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def ending_with_us(command: Sequence[str]) -> list[str]:
    """The command, made to die with this process, or with the thread that starts it."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _WITH_US, str(os.getpid()), *command]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Returns in the process that is to run the tests. In the others it never returns: they end with its status.

    A worker of xdist runs it too: it is below already.
    """
    if sys.platform != "linux" or hasattr(config, "workerinput"):
        return
    outer_pid = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    told, tell = os.pipe()
    between_pid = os.fork()
    if between_pid:
        os.close(tell)
        _outer(between_pid, told)
    os.close(told)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    tests_pid = os.fork()
    if tests_pid:
        _between(outer_pid, tests_pid, tell)
    os.close(tell)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _outer(between_pid: int, told: int) -> NoReturn:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    tests_pid = int.from_bytes(os.read(told, 4), "little")
    status = None
    while status is None:
        signalled = signal.sigwaitinfo({*_PASSED_ON, signal.SIGCHLD})
        if signalled.si_signo != signal.SIGCHLD and signalled.si_code <= _SI_USER and tests_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(tests_pid, signalled.si_signo)
        status = dict(_reaped()).get(between_pid)
    _kill_all_below()
    _end_with(status)


def _between(outer_pid: int, tests_pid: int, tell: int) -> NoReturn:
    """Waits in a session of its own, which a signal to the group of the tests does not reach."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.setsid()
    os.write(tell, tests_pid.to_bytes(4, "little"))
    os.close(tell)
    status = None
    while status is None and os.getppid() == outer_pid:
        signal.sigwaitinfo({signal.SIGTERM, signal.SIGCHLD})
        status = dict(_reaped()).get(tests_pid)
    _kill_all_below()
    _end_with(0 if status is None else status)


def _reaped() -> Iterator[tuple[int, int]]:
    """The children that have died, and their statuses."""
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitpid(-1, os.WNOHANG))[0]:
            yield dead


def _kill_all_below() -> None:
    """Returns once no process is left below this one: those whose parent dies are its children then."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            # After the name, which may hold anything: the state, the parent.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                yield int(entry.name)


def _end_with(status: int) -> NoReturn:
    """Ends as the tests have ended, by a signal where that was so. Flushes nothing: this process wrote nothing."""
    if os.WIFSIGNALED(status):
        signum = os.WTERMSIG(status)
        with contextlib.suppress(OSError):  # SIGKILL has no other way anyway.
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
        os.kill(os.getpid(), signum)
    os._exit(os.waitstatus_to_exitcode(status))


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(2)")
