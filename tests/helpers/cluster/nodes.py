"""A Ray cluster of three nodes on loopback, each with an address of its own, and a server on each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from satmeter.scripts.processes import descendants
from tests.helpers.patience import PATIENCE_S, PROGRAM_S
from tests.helpers.served import Served

# Ray reads them when it is imported, and its processes inherit them.
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
}
_LIST_ACTORS = """
import json, ray, sys
ray.init(address=sys.argv[1], _node_ip_address="127.0.0.1", log_to_driver=False, configure_logging=False)
print(json.dumps([actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]))
"""
_NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}


class Nodes:
    """The nodes and their servers, by number. Node 0 is Ray's head."""

    def __init__(self, directory: Path, redis_url: str, **environment: str) -> None:
        os.environ.update(ENVIRONMENT)
        # The library writes the address of its cluster there, and expects the directory.
        Path("/tmp/ray").mkdir(exist_ok=True)
        from ray.cluster_utils import Cluster

        self._directory = directory
        self._environment = {**ENVIRONMENT, "REDIS_URL": redis_url, "MACAROON_ROOT_KEY": "ab" * 32, **environment}
        head = {**_NODE, "node_ip_address": "127.0.0.1", "temp_dir": str(directory / "r")}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: dict[int, Any] = {0: self._cluster.head_node}
        self.servers: dict[int, Served] = {}

    def add(self, number: int) -> None:
        """One more node."""
        self._nodes[number] = self._cluster.add_node(node_ip_address=f"127.0.0.{number + 1}", **_NODE)

    def serve(self, number: int, **environment: str) -> Served:
        """Starts a server on a node, without waiting for it."""
        place = {"RAY_ADDRESS": self._cluster.address, "SATMETER_RAY_NODE_IP": f"127.0.0.{number + 1}"}
        data_dir = self._directory / f"n{number}"
        self.servers[number] = Served(data_dir, {**self._environment, **place, **environment})
        return self.servers[number]

    def hosts(self, number: int) -> list[int]:
        """The processes of actor hosts on a node."""
        raylets = self._nodes[number].all_processes["raylet"]
        found = descendants(raylets[0].process.pid)
        return [pid for pid, process in found.items() if process.command.startswith("ray::HostActor")]

    def actors(self) -> list[str]:
        """The names of all actors that Ray knows, in whatever namespace."""
        command = [sys.executable, "-c", _LIST_ACTORS, self._cluster.address]
        output = subprocess.run(command, capture_output=True, check=True, timeout=PROGRAM_S).stdout
        # Ray tells of dead nodes in between, on standard output, and can't be asked not to.
        names: list[str] = json.loads(next(line for line in output.splitlines() if line.startswith(b"[")))
        return names

    def kill(self, number: int) -> None:
        """The machine is gone: all processes of the node and its server die at once."""
        server = self.servers.pop(number)
        for pid in [server.process.pid, *server.descendants()]:
            os.kill(pid, signal.SIGKILL)
        server.process.wait(PATIENCE_S)
        server.close()
        self._cluster.remove_node(self._nodes.pop(number), allow_graceful=False)

    def close(self) -> None:
        """Ends all."""
        for server in self.servers.values():
            server.process.terminate()
        for server in self.servers.values():
            server.close()
        self._cluster.shutdown()


@contextmanager
def nodes(count: int, redis_url: str, **environment: str) -> Iterator[Nodes]:
    """So many nodes, each with a server that is ready."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-")))
        cluster = Nodes(directory, redis_url, **environment)
        stack.callback(cluster.close)
        for number in range(1, count):
            cluster.add(number)
        for number in range(count):
            cluster.serve(number)
        for server in cluster.servers.values():
            server.wait_until_ready()
        yield cluster
