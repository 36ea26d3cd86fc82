"""A store as a careful operator runs it: a user with few rights, and TLS of a CA of its own, on loopback."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis
from redis.exceptions import RedisError

from satmeter.scripts.store.binary import find_binary
from tests.helpers.custody import ending_with_us
from tests.helpers.hosts import until
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import free_port
from tests.helpers.stores import SLOTS, cluster_port, tell

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-of-this-test"
WITHOUT_TLS = "no redis-server with TLS (Debian: apt install redis-server)"
OF_A_SENTINEL = ("+sentinel|masters", "+sentinel|get-master-addr-by-name", "+ping")
"""Rights at a sentinel, as docs/operating.md has them."""
_RULES = {"satmeter": "store-user.acl", "ray": "ray-store-user.acl"}
_SAFE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


def rights(of: str = "satmeter") -> list[str]:
    """The rule of a user of deploy/ in words, with the user's name and password left out."""
    user, name, *words = (ROOT / "deploy" / _RULES[of]).read_text().split()
    assert (user, name) == ("user", of)
    return [word for word in words if not word.startswith(">")]


async def grant(node: Redis, to: str = "satmeter") -> None:
    """Makes a documented user in a server."""
    words: list[Any] = ["ACL", "SETUSER", to, "reset", f">{PASSWORD}", *rights(to)]
    await node.execute_command(*words)  # type: ignore[no-untyped-call]


async def refused_to(node: Redis) -> list[str]:
    """Rights that the user was refused since the server started."""
    return [f"{entry['reason']} {entry['object']}" for entry in await node.acl_log()]


async def used_in(node: Redis) -> set[str]:
    """The commands that were carried out since the server started, as an ACL writes them."""
    return {name.removeprefix("cmdstat_") for name in await node.info("commandstats")}


@dataclass
class SecureStore:
    """A running store. `admin` is a client with all rights; `ca`, `certificate` and `key` are for clients."""

    url: str
    admin: Redis
    folder: Path
    port: int

    def address(self, *options: str, host: str = "127.0.0.1", user: str = f"satmeter:{PASSWORD}") -> str:
        """A URL with some of `ca`, `cert` and `key`."""
        files = {
            "ca": ("ssl_ca_certs", "ca.pem"),
            "cert": ("ssl_certfile", "client.pem"),
            "key": ("ssl_keyfile", "client.key"),
        }
        query = "&".join(f"{files[name][0]}={self.folder / files[name][1]}" for name in options)
        return f"rediss://{user}@{host}:{self.port}/0?{query}"


@asynccontextmanager
async def tls_store() -> AsyncIterator[SecureStore]:
    """A store that only speaks TLS, wants a certificate of its clients, and knows the documented user."""
    async with AsyncExitStack() as stack:
        program, folder = _with_certificates(stack)
        port = free_port()
        admin = await stack.enter_async_context(_running(program, folder, _tls(folder, port)))
        store = SecureStore("", admin, folder, port)
        store.url = store.address("ca", "cert", "key")
        yield store


@asynccontextmanager
async def tls_cluster() -> AsyncIterator[tuple[str, list[Redis]]]:
    """A cluster of three primaries that only speak TLS, also among each other; its URL, and clients with all rights."""
    async with AsyncExitStack() as stack:
        program, folder = _with_certificates(stack)
        ports = [cluster_port() for _ in range(3)]
        nodes = []
        for port in ports:
            own = folder / str(port)
            own.mkdir()
            options = [*_tls(folder, port), "--cluster-enabled", "yes", "--tls-cluster", "yes"]
            nodes.append(await stack.enter_async_context(_running(program, own, options)))
        for number, node in enumerate(nodes):
            await tell(node, "CLUSTER ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
            await tell(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number:
                await tell(node, "CLUSTER MEET", "127.0.0.1", ports[0])

        async def sound() -> bool:
            infos = [await tell(node, "CLUSTER INFO") for node in nodes]
            return all(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3" for info in infos)

        await until(sound)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield f"rediss+cluster://satmeter:{PASSWORD}@{hosts}?{_query(folder)}", nodes


@asynccontextmanager
async def tls_sentinel() -> AsyncIterator[tuple[str, Redis]]:
    """A primary behind a sentinel, both only by TLS; their URL, and a client of the primary with all rights."""
    async with AsyncExitStack() as stack:
        program, folder = _with_certificates(stack)
        ports = [free_port(), free_port()]
        for port in ports:
            (folder / str(port)).mkdir()
        primary = await stack.enter_async_context(_running(program, folder / str(ports[0]), _tls(folder, ports[0])))
        file = folder / str(ports[1]) / "sentinel.conf"
        words = [word.removeprefix("--") for word in [*_tls(folder, ports[1]), "--tls-replication", "yes"]]
        lines = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
        file.write_text("\n".join([*lines, f"sentinel monitor main 127.0.0.1 {ports[0]} 1"]))
        sentinel = _running(program, file.parent, [], configuration=file)
        watcher = await stack.enter_async_context(sentinel)

        async def seen() -> bool:
            return "ok" in str((await tell(watcher, "INFO", "sentinel"))["master0"])

        await until(seen)
        await tell(watcher, "ACL", "SETUSER", "watcher", "on", f">{PASSWORD}", "-@all", *OF_A_SENTINEL)
        login = f"sentinel_username=watcher&sentinel_password={PASSWORD}"
        yield f"rediss+sentinel://satmeter:{PASSWORD}@127.0.0.1:{ports[1]}/main?{login}&{_query(folder)}", primary
        assert await refused_to(watcher) == []


def _with_certificates(stack: AsyncExitStack) -> tuple[str, Path]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(WITHOUT_TLS)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk())))
    make_certificates(folder)
    return program, folder


def _tls(folder: Path, port: int) -> list[str]:
    return [
        "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "yes",
        "--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-cert-file", str(folder / "server.pem"),
        "--tls-key-file", str(folder / "server.key"),
    ]  # fmt: skip


def _query(folder: Path) -> str:
    return f"ssl_ca_certs={folder}/ca.pem&ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"


@asynccontextmanager
async def store_with_rights() -> AsyncIterator[SecureStore]:
    """The embedded store's program on a port, which knows the documented user and no other over the network."""
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as name:
        folder, port = Path(name), free_port()
        async with _running(str(find_binary()), folder, ["--port", str(port), "--bind", "127.0.0.1"]) as admin:
            yield SecureStore(f"redis://satmeter:{PASSWORD}@127.0.0.1:{port}/0", admin, folder, port)


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(ending_with_us(command), stdout=output, stderr=output)


@asynccontextmanager
async def _running(
    program: str, folder: Path, options: list[str], configuration: Path | None = None
) -> AsyncIterator[Redis]:
    """Runs a server, or the sentinel of a configuration; yields a client with all rights."""
    socket = folder / "admin.sock"
    command = [program, "--dir", str(folder), "--unixsocket", str(socket), *_SAFE, *options]
    if configuration is not None:
        command = [program, str(configuration), "--sentinel", "--unixsocket", str(socket), "--dir", str(folder)]
    process = _started(command, folder / "log")
    admin: Redis = Redis(unix_socket_path=str(socket))

    async def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return bool(await admin.ping())
        except (RedisError, OSError):
            return False

    try:
        await until(answers)
        if configuration is None:
            await grant(admin)
        yield admin
    finally:
        await admin.aclose()
        process.kill()
        process.wait()


def make_certificates(folder: Path) -> None:
    """Makes a CA, a certificate of the server at 127.0.0.1, one of a client, and another CA that nobody knows."""
    key, ca = _certificate("test CA", folder / "ca.pem", folder / "ca.key")
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    _certificate("server", folder / "server.pem", folder / "server.key", (key, ca), names)
    _certificate("client", folder / "client.pem", folder / "client.key", (key, ca))
    _certificate("other CA", folder / "other.pem", folder / "other.key")


def _certificate(
    name: str,
    path: Path,
    key_path: Path,
    issuer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None,
    names: list[Any] | None = None,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    issuer_key, issuer_name = (key, subject) if issuer is None else (issuer[0], issuer[1].subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, issuer is None, issuer is None, False, False), critical=True
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(issuer_key, hashes.SHA256())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    key_path.write_bytes(key.private_bytes(*form, plain))
    return key, made
