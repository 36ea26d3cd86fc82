"""What Ray reads from the environment, once, when it is imported; child processes inherit it."""

from __future__ import annotations

import os
import secrets
from typing import Final

_LOOPBACK: Final = ("127.", "localhost", "[::1]")


def prepare_ray(address: str | None) -> None:
    """Must be called before Ray is imported: keeps it silent, and on loopback when all of it is there.

    address: that of a cluster to join. A cluster of our own gets a token that only our processes know: whoever reaches
    Ray can run code as us.
    """
    if address is None or address.startswith(_LOOPBACK):
        # Otherwise Ray rewrites 127.0.0.1 to the machine's outward address, and listens there. A cluster of several
        # machines would with it be looked for on this one.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise looking for an actor after the end would start another cluster.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
