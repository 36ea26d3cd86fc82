"""Environment variables of Ray, which it reads once, at its import; child processes inherit them."""

from __future__ import annotations

import os
import secrets
from typing import Final

_LOOPBACK: Final = ("127.", "localhost", "[::1]")
# Defaults for an own cluster, on a machine that may be busy or small. The operator's values have priority.
_OWN_CLUSTER: Final = {
    # Ray's own time-outs of seconds are too short for a busy machine. The first bounds one look for the node.
    "RAY_raylet_start_wait_time_s": "10",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_py_gcs_connect_timeout_s": "120",
    "RAY_raylet_client_num_connect_attempts": "120",
    "RAY_worker_register_timeout_seconds": "600",
    # Otherwise the start waits, ignoring signals, for processes that are started in advance.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # The metrics have no collector.
    "RAY_enable_metrics_collection": "0",
    # Ray would kill hosts when any program fills the machine's memory. The kernel kills the largest program instead.
    "RAY_memory_monitor_refresh_ms": "0",
}


def prepare_ray(address: str | None) -> None:
    """Set Ray's environment variables before Ray is imported: they keep it silent, and on loopback if it is only there.

    address: that of a cluster to join. An own cluster gets a token that only our processes know, as any program that
    reaches Ray could run code as this user.
    """
    if address is None or address.startswith(_LOOPBACK):
        # Otherwise Ray rewrites 127.0.0.1 to the machine's outward address, and listens there. With a cluster of
        # several machines it stays unset, as Ray would then look for that cluster on this machine.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What it prints goes to a file.
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    # Otherwise a look-up of an actor after the end would start another cluster.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    if address is None:
        for name, value in _OWN_CLUSTER.items():
            os.environ.setdefault(name, value)
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
