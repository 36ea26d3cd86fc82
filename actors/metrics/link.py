"""Link of a process to the totals of its server: a unix socket in the server's private directory, under its node.

The server asks, and the process answers with its changes: before each answer of `/metrics`, so that the figures are
fresh, and every few seconds, so that a process that is killed takes few of its counts with it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from ...config.private_dir import private_dirs
from ..frames import read_frame, write_frame
from .changes import Changes, Family

FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
GIVE: Final = b""
"""Frame by which the server asks a process for its changes."""
_NODE_CHARS: Final = 16
_CONNECTS_AGAIN_S: Final = 1.0
_ANSWERS_WITHIN_S: Final = 3.0
_log = structlog.get_logger(__name__)


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """First message of a process: its kind, or, from one that asks for the totals, an empty text."""

    role: str


GREETINGS: Final = msgspec.msgpack.Decoder(Greeting)
FAMILIES: Final = msgspec.msgpack.Decoder(list[Family])
_encode: Final = msgspec.msgpack.Encoder().encode


class NoTotalsError(Exception):
    """Lack of totals: the server's main process does not answer."""


def socket_in(directory: Path, node_id: str) -> Path:
    """Return the path of the socket of a Ray node's server."""
    return directory / f"metrics-{node_id[:_NODE_CHARS]}.sock"


async def ask_totals(node_id: str) -> list[Family]:
    """Return the totals of this node's server. Raises `NoTotalsError`."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            reader, writer = await _connect(node_id)
            try:
                write_frame(writer, _encode(Greeting("")))
                return FAMILIES.decode(await read_frame(reader, FRAME_MAX_BYTES))
            finally:
                writer.close()
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise NoTotalsError(type(error).__name__) from error


async def hand_over(registry: CollectorRegistry, role: str, node_id: str) -> None:
    """Hand the changes of a registry to this node's server whenever it asks, until cancelled. Raises nothing else.

    Without a server, and while another one starts, the changes gather here.
    """
    changes = Changes(registry)
    while True:
        try:
            reader, writer = await _connect(node_id)
            try:
                write_frame(writer, _encode(Greeting(role)))
                while True:
                    await read_frame(reader, 0)
                    write_frame(writer, _encode(changes.take()))
                    await writer.drain()
                    changes.handed_over()
            finally:
                writer.close()
        except (OSError, EOFError):
            await asyncio.sleep(_CONNECTS_AGAIN_S)
        except Exception as error:
            # Metrics must never end the process that they are of.
            _log.error("metrics_not_handed_over", error_type=type(error).__name__)
            await asyncio.sleep(_CONNECTS_AGAIN_S)


async def _connect(node_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to this node's server. Raises `OSError`."""
    for directory in await asyncio.to_thread(lambda: list(private_dirs())):
        try:
            return await asyncio.open_unix_connection(socket_in(directory, node_id))
        except OSError:
            continue  # Another node's server, or one that was killed.
    raise ConnectionError("no server on this node adds metrics up")
