"""Socket on which the main process of a server hands secrets to the processes of its Ray node that need them.

It lies in the server's private directory, under the node's id, so that a process finds it without being told a path.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from .held_secrets import Handout, Role
from .private_dir import private_dirs

_NODE_CHARS: Final = 16
_ANSWERS_WITHIN_S: Final = 5.0
_BYTES_MAX: Final = 1_048_576


class NoSecretsError(Exception):
    """Lack of a server on this node that hands out secrets."""


def socket_in(directory: Path, node_id: str) -> Path:
    """Return the path of the socket of a Ray node's server."""
    return directory / f"secrets-{node_id[:_NODE_CHARS]}.sock"


async def ask_for_secrets(role: Role, node_id: str) -> Handout:
    """Return the secrets of a process of this kind, by the server of this Ray node. Raises `NoSecretsError`."""
    for directory in await asyncio.to_thread(lambda: list(private_dirs())):
        path = socket_in(directory, node_id)
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                return await _ask(path, role)
        except (OSError, ValueError):
            continue  # Another node's server, or one that was killed.
    raise NoSecretsError("no server on this node hands out secrets")


async def _ask(path: Path, role: Role) -> Handout:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(f"{role.value}\n".encode())
        answer = await reader.read(_BYTES_MAX)
        while piece := await reader.read(_BYTES_MAX):
            answer += piece
        return msgspec.json.decode(answer, type=Handout)
    finally:
        writer.close()
