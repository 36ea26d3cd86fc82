"""Server of secrets: it hands each process of the node those that its work needs, by a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from ...actors.catalogue.loading import upstream_keys
from ...config.held_secrets import Handout, Role, secrets_for
from ...config.root_key import derived_keys, previous_keys
from ...config.secret_socket import socket_in
from ...config.settings import Settings

_LINE_BYTES_MAX = 64
_log = structlog.get_logger(__name__)


def handout_for(settings: Settings, role: Role) -> Handout:
    """Return the secrets of a process of this kind. Raises `CatalogueError` for a key that can't be read."""
    return Handout(
        settings=secrets_for(settings, role),
        upstream_keys=dict(upstream_keys(settings)) if role in (Role.HOST, Role.ORACLE) else {},
        webhook_keys=list(webhook_keys(settings)) if role is Role.HOST else [],
    )


def webhook_keys(settings: Settings) -> Sequence[bytes]:
    """Return the keys that sign notices, the first of which is in use."""
    previous = previous_keys(settings)
    return [derived_keys(settings).webhooks, *([] if previous is None else [previous.webhooks])]


class SecretServer:
    """A socket in the server's private directory, which no other user can enter."""

    def __init__(self, settings: Settings) -> None:
        """Read all keys at once: a file that changes later changes nothing. Raises `CatalogueError`."""
        self._handouts = {
            role.value.encode(): msgspec.json.encode(handout_for(settings, role))
            for role in Role
            if role is not Role.FRONT
        }
        self._server: asyncio.Server | None = None

    async def open(self, directory: Path, node_id: str) -> None:
        """Listen for processes of this Ray node."""
        self._server = await asyncio.start_unix_server(self._answer, socket_in(directory, node_id))

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = (await reader.read(_LINE_BYTES_MAX)).strip()
            if (handout := self._handouts.get(asked)) is None:
                _log.warning("secrets_for_unknown_role")
                return
            writer.write(handout)
            await writer.drain()
        except OSError:
            pass  # The process has ended meanwhile, and asks again when it is back.
        finally:
            writer.close()
