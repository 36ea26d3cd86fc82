"""What Ray reads from the environment, once, when it is imported; child processes inherit it."""

from __future__ import annotations

import os
import secrets
from typing import Final

_LOOPBACK: Final = ("127.", "localhost", "[::1]")
# Of a cluster of our own, on a machine that may be busy or small. What the operator has set stays.
_OWN_CLUSTER: Final = {
    # Ray gives up after seconds that a busy machine needs many times over. How long one look for the node may take:
    "RAY_raylet_start_wait_time_s": "10",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_py_gcs_connect_timeout_s": "120",
    "RAY_raylet_client_num_connect_attempts": "120",
    "RAY_worker_register_timeout_seconds": "600",
    # Otherwise the start waits, deaf, for processes that are started in store.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # Nobody collects them.
    "RAY_enable_metrics_collection": "0",
    # Ray would end hosts when anything on the machine fills its memory. The kernel ends what is too large.
    "RAY_memory_monitor_refresh_ms": "0",
}


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
        for name, value in _OWN_CLUSTER.items():
            os.environ.setdefault(name, value)
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
