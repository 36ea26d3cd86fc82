"""The sentences of a start that fails or takes long, and where the noise of libraries goes meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from satmeter.scripts.server import start_messages
from satmeter.scripts.server.start_messages import few_files, of_os_error, patiently, words_of


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "give a --data-dir that is yours"),
        (errno.EROFS, "on a disk that can be written to"),
        (errno.ENOSPC, "make room on its disk"),
        (errno.ENOTDIR, "that is a directory"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EAGAIN, "ulimit -u"),
    ],
)
def test_a_file_that_can_not_be_used_is_named_with_what_helps(number: int, remedy: str) -> None:
    text = of_os_error(OSError(number, os.strerror(number), "/data/store"))
    assert text.startswith(f"/data/store: {os.strerror(number)}: ") and remedy in text and text.endswith(".")


def test_an_error_of_another_kind_says_what_it_says() -> None:
    assert of_os_error(OSError("odd")) == "odd."


@pytest.mark.parametrize(("running", "busy"), [(1, False), (4, False), (21, True)])
def test_a_machine_is_busy_when_many_programs_want_its_cpus(
    running: int, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.4, 0.3, 0.2))
    monkeypatch.setattr(Path, "read_text", lambda _self: f"0.40 0.30 0.20 {running + 1}/200 999\n")
    assert start_messages.busy() == (" The machine is busy: 21 programs want its 2 CPUs." if busy else "")


def test_an_error_body_is_told_by_its_sentence() -> None:
    assert words_of('{"error": "The store is away.", "code": "unavailable"}') == "The store is away."
    assert [words_of(text) for text in ("", "[]", "{}", "<html>")] == ["", "[]", "{}", "<html>"]


async def test_what_takes_long_is_told_now_and_then_until_it_is_done() -> None:
    told: list[str] = []
    done = asyncio.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            done.set()

    await patiently(done.wait(), "Starting it", tell, tell_every_s=0.001)
    assert len(told) == 3 and all(text.startswith("Starting it: this takes its time.") for text in told)


async def test_what_fails_at_once_is_raised_and_nothing_told() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await patiently(fail(), "Starting it", lambda _text: pytest.fail("told"))


@pytest.mark.parametrize(
    ("limit", "words"), [(1_024, "Only 1,024 files"), (4_096, None), (resource.RLIM_INFINITY, None)]
)
def test_a_low_limit_of_open_files_is_told(limit: int, words: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (limit, limit))
    found = few_files()
    assert found is None if words is None else found is not None and words in found and "824 connections" in found


NOISE = """
import os, pathlib, subprocess, sys
from satmeter.scripts.server.library_output import RawOutput
raw = RawOutput(pathlib.Path(sys.argv[1]))
os.write(2, b"from C\\n")
print("printed")
subprocess.run(["sh", "-c", "echo of a child >&2"])
try:
    raise RuntimeError("unforeseen")
except RuntimeError as error:
    raw.keep(error)
raw.terminal.write(f"a sentence; more in {raw.path}\\n")
"""


@pytest.mark.parametrize("usable", [True, False])
def test_what_libraries_print_goes_to_a_file_and_sentences_to_the_terminal(tmp_path: Path, usable: bool) -> None:
    directory = tmp_path / "data"
    if not usable:
        directory.write_text("not a directory")
    run = subprocess.run(
        [sys.executable, "-c", NOISE, str(directory)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    said, _, path = run.stderr.strip().rpartition(" ")
    assert (run.stdout, said) == ("", "a sentence; more in")
    assert Path(path).parent == (directory if usable else tmp_path)
    kept = Path(path).read_text()
    for words in ("from C\n", "printed\n", "of a child\n", "RuntimeError: unforeseen\n"):
        assert words in kept
    assert Path(path).stat().st_mode & 0o777 == 0o600
