"""Stores of several servers, as real processes on the loopback: a cluster, and a primary with a replica and a sentinel.

Each lies in a directory of its own and is gone at the end.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.cluster_client import ClusterRedis
from satmeter.config.store_url import Address
from satmeter.scripts.store.binary import find_binary
from tests.helpers.custody import ending_with_us
from tests.helpers.hosts import until
from tests.helpers.quick_disk import quick_disk

SLOTS = 16_384
HOST = "127.0.0.1"
# Below the ports that the system gives to outgoing connections, and so is the cluster's own, which is 10,000 above.
_PORTS = range(12_000, 22_000)
_BUS = 10_000
_SAFE = (
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--save",
    "",
    "--bind",
    HOST,
    "--repl-diskless-sync-delay",
    "0",
)

_Start = Callable[..., Awaitable["Server"]]


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> Address:
        return Address(HOST, self.port)

    def client(self) -> Redis:
        """A plain client of this server alone."""
        return Redis(host=HOST, port=self.port)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; SIGKILL is waited for."""
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()


@dataclass
class Store:
    """Several servers that are one store; the first of them are its primaries."""

    url: str
    servers: list[Server]
    sentinel: Server | None = None


@asynccontextmanager
async def cluster(*, replica: bool = False, node_timeout_ms: int = 10_000) -> AsyncIterator[Store]:
    """Three primaries; `replica` adds one of the first."""
    with _servers() as start:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms), *_SAFE)
        servers = [await start(*options) for _ in range(4 if replica else 3)]
        primaries = servers[:3]
        for number, server in enumerate(primaries):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            await _tell(server, "CLUSTER ADDSLOTSRANGE", first, last)
            await _tell(server, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            await _tell(server, "CLUSTER MEET", HOST, servers[0].port)

        async def sound() -> bool:
            infos = [await _tell(server, "CLUSTER INFO") for server in servers]
            return all(i["cluster_state"] == "ok" and i["cluster_known_nodes"] == str(len(servers)) for i in infos)

        await until(sound)
        if replica:
            primary_id = (await _tell(servers[0], "CLUSTER MYID")).decode()
            await _tell(servers[3], "CLUSTER REPLICATE", primary_id)
            await until(lambda: _in_step(servers[3]))
        yield Store("redis+cluster://" + ",".join(str(server.address) for server in servers), servers)


@asynccontextmanager
async def watched(master: str = "mymaster") -> AsyncIterator[Store]:
    """A primary, its replica, and one sentinel that decides alone."""
    with _servers() as start:
        primary = await start(*_SAFE)
        replica = await start("--replicaof", HOST, str(primary.port), *_SAFE)
        await until(lambda: _in_step(replica))
        sentinel = await start(
            configuration=[
                f"bind {HOST}",
                f"sentinel monitor {master} {HOST} {primary.port} 1",
                f"sentinel down-after-milliseconds {master} 300",
                f"sentinel failover-timeout {master} 2000",
            ]
        )

        async def replica_known() -> bool:
            return len(await _tell(sentinel, "SENTINEL REPLICAS", master)) == 1

        await until(replica_known)
        yield Store(f"redis+sentinel://{sentinel.address}/{master}", [primary, replica], sentinel)


async def nodes_of(redis: Redis) -> Sequence[Redis]:
    """A client for each server that takes writes."""
    return list((await redis.primaries()).values()) if isinstance(redis, ClusterRedis) else [redis]


@asynccontextmanager
async def losing_answers(nodes: Sequence[Address]) -> AsyncIterator[tuple[ClusterRedis, asyncio.Event]]:
    """A client behind a proxy for each node; once the event is set, the next answer is lost with its connection."""
    lose = asyncio.Event()
    open_: set[asyncio.Task[None]] = set()
    ports: dict[Address, int] = {}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lambda: asyncio.gather(*open_))
        for node in nodes:
            proxy = await stack.enter_async_context(await asyncio.start_server(_between(node, lose, open_), HOST, 0))
            ports[node] = proxy.sockets[0].getsockname()[1]
        client = ClusterRedis(nodes, lambda node: connect(f"redis://{HOST}:{ports[node]}"))
        stack.push_async_callback(client.aclose)
        yield client, lose


def _between(
    node: Address, lose: asyncio.Event, open_: set[asyncio.Task[None]]
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lossy: bool) -> None:
        # Either end may be gone at any moment, which ends the other.
        with suppress(OSError):
            while data := await reader.read(65_536):
                if lossy and lose.is_set():
                    lose.clear()
                    break
                writer.write(data)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        server_reader, server_writer = await asyncio.open_connection(*node)
        # What a node answers it has carried out.
        await asyncio.gather(pump(reader, server_writer, lossy=False), pump(server_reader, writer, lossy=True))

    return handle


async def tell(node: Redis, *words: Any) -> Any:
    """Has a server carry out a command that its client has no method for."""
    return await node.execute_command(*words)  # type: ignore[no-untyped-call]


async def move_slot_of(key: str, to: Redis, redis: ClusterRedis) -> None:
    """Moves a key's slot the way `valkey-cli --cluster reshard` does, key by key, while others use it."""
    slot = key_slot(key.encode())
    source = next(node for address, node in (await redis.primaries()).items() if address == redis.shard_of(key))
    source_id, to_id = [(await tell(node, "CLUSTER MYID")).decode() for node in (source, to)]
    await tell(to, "CLUSTER SETSLOT", slot, "IMPORTING", source_id)
    await tell(source, "CLUSTER SETSLOT", slot, "MIGRATING", to_id)
    port = to.connection_pool.connection_kwargs["port"]
    while keys := await tell(source, "CLUSTER GETKEYSINSLOT", slot, 1):
        await tell(source, "MIGRATE", HOST, port, "", 0, 5_000, "KEYS", *keys)
    for node in (to, source):
        await tell(node, "CLUSTER SETSLOT", slot, "NODE", to_id)


@contextmanager
def _servers() -> Iterator[_Start]:
    """Gives what starts servers; ends them all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk())))
        program = find_binary()

        async def start(*options: str, configuration: Sequence[str] = ()) -> Server:
            port = cluster_port()
            place = folder / str(port)
            place.mkdir()
            command = [str(program), "--port", str(port), "--dir", str(place), *options]
            if configuration:
                (place / "sentinel.conf").write_text("\n".join([f"port {port}", f"dir {place}", *configuration]))
                command = [str(program), str(place / "sentinel.conf"), "--sentinel"]
            server = _launched(command, port, place / "log")
            stack.callback(server.signal, signal.SIGKILL)

            async def answers() -> bool:
                assert server.process.poll() is None, (place / "log").read_text()
                try:
                    await _tell(server, "PING")
                except RedisError:
                    return False
                return True

            await until(answers)
            return server

        yield start


def _launched(command: Sequence[str], port: int, log: Path) -> Server:
    with log.open("wb") as output:
        return Server(port, subprocess.Popen(ending_with_us(command), stdout=output, stderr=output))


def cluster_port() -> int:
    """A port that nobody listens on, with that of a cluster's own, 10,000 above."""
    for port in random.sample(_PORTS, len(_PORTS)):
        try:
            for number in (port, port + _BUS):
                with closing(socket.socket()) as probe:
                    probe.bind((HOST, number))
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free")


async def _in_step(replica: Server) -> bool:
    return bool((await _tell(replica, "INFO", "replication"))["master_link_status"] == "up")


async def _tell(server: Server, *words: str | int) -> Any:
    async with server.client() as client:
        return await tell(client, *words)
