"""Log entries of actor processes reach the process that prints, and never hold up the one that logs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from satmeter.config.log_socket import LOG_SOCKET, SocketHandler, log_socket_in, log_sockets
from satmeter.config.logging import configure_logging, printer
from satmeter.scripts.server.log_collector import LogCollector
from tests.helpers.patience import PATIENCE_S


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory: the socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        yield Path(directory) / "log.sock"


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "", 0, text, None, None)


@pytest.mark.usefixtures("_restored_logging")
async def test_entries_of_another_process_are_printed_as_they_were_rendered_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    collector = LogCollector(place, printer(shown))
    await collector.open()
    monkeypatch.setenv(LOG_SOCKET, str(place))
    configure_logging("info")
    structlog.get_logger("satmeter.host").info("moved", session_id="ses_1", macaroon="SECRET")
    logging.getLogger("library").warning("two\nlines")
    while shown.getvalue().count("\n") < 2:
        await asyncio.sleep(0)
    first, second = (json.loads(line) for line in shown.getvalue().splitlines())
    assert (first["event"], first["session_id"], first["macaroon"]) == ("moved", "ses_1", "[redacted]")
    assert (second["event"], second["logger"]) == ("two\nlines", "library")
    assert (first["pid"], second["pid"]) == (os.getpid(), os.getpid())
    await collector.close()


def test_a_reader_that_stands_still_holds_nobody_up_and_what_was_dropped_is_counted(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        handler = SocketHandler(lambda: [place])
        for _ in range(2_000):
            handler.emit(record("x" * 1_000))
        reader, _ = listener.accept()
        with reader:
            reader.settimeout(PATIENCE_S)
            received = reader.recv(65_536)
            while b"at last" not in received:
                handler.emit(record("at last"))
                received += reader.recv(65_536)
        handler.close()
    lines = received.splitlines()
    told = next(json.loads(line) for line in lines if line.startswith(b"{"))
    assert told["event"] == "log_entries_dropped"
    assert told["count"] + sum(line == b"x" * 1_000 for line in lines) >= 2_000
    assert all(line in (b"x" * 1_000, b"at last") or line.startswith(b"{") for line in lines)


def test_without_a_reader_entries_are_dropped_and_the_next_one_is_found(place: Path) -> None:
    handler = SocketHandler(lambda: [place])
    handler.emit(record("to nobody"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        handler.emit(record("heard"))
        reader, _ = listener.accept()
        with reader:
            reader.settimeout(PATIENCE_S)
            assert reader.recv(1_000).splitlines()[-1] == b"heard"
    handler.close()


def test_where_no_server_listens_entries_go_elsewhere_until_one_does(place: Path) -> None:
    otherwise = io.StringIO()
    handler = SocketHandler(lambda: [place], otherwise)
    handler.emit(record("in a file"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        handler.emit(record("heard"))
        reader, _ = listener.accept()
        with reader:
            reader.settimeout(PATIENCE_S)
            assert reader.recv(1_000) == b"heard\n"
    handler.close()
    assert otherwise.getvalue() == "in a file\n"


async def test_the_socket_of_a_ray_node_s_server_is_found_by_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="sm-") as name:
        directory, node = Path(name), "ab" * 28
        monkeypatch.setattr("satmeter.config.log_socket.private_dirs", lambda: [tmp_path, directory])
        assert list(log_sockets(node)) == []
        shown: list[bytes] = []
        collector = LogCollector(directory / "log.sock", shown.extend)
        await collector.open()
        collector.name(log_socket_in(directory, node))
        handler = SocketHandler(lambda: log_sockets(node))
        handler.emit(record("from an actor"))
        while not shown:
            await asyncio.sleep(0)
        assert shown == [b"from an actor"]
        assert list(log_sockets("cd" * 28)) == []
        handler.close()
        await collector.close()
