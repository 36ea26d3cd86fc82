"""What Ray reads from the environment, once, when it is imported; child processes inherit it."""

from __future__ import annotations

import os
import secrets


def prepare_ray(*, own_cluster: bool) -> None:
    """Must be called before Ray is imported: keeps it on loopback and silent.

    A cluster of our own also gets a token that only our processes know: whoever reaches Ray can run code as us.
    """
    # Otherwise Ray rewrites 127.0.0.1 to the machine's outward address, and listens there.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise looking for an actor after the end would start another cluster.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if own_cluster:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
