"""A store as a careful operator runs it: a user with few rights, and TLS of a CA of its own, on loopback."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-of-this-test"
WITHOUT_TLS = "no redis-server with TLS (Debian: apt install redis-server)"
_SAFE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


def rights() -> list[str]:
    """The rule of deploy/store-user.acl in words, with the user's name and password left out."""
    user, name, *words = (ROOT / "deploy" / "store-user.acl").read_text().split()
    assert (user, name) == ("user", "satmeter")
    return [word for word in words if not word.startswith(">")]


async def grant(node: Redis) -> None:
    """Makes the documented user in a server."""
    words: list[Any] = ["ACL", "SETUSER", "satmeter", f">{PASSWORD}", *rights()]
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
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip(WITHOUT_TLS)
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as name:
        folder, port = Path(name), free_port()
        make_certificates(folder)
        options = [
            "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "yes",
            "--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-cert-file", str(folder / "server.pem"),
            "--tls-key-file", str(folder / "server.key"),
        ]  # fmt: skip
        async with _running(program, folder, options) as admin:
            store = SecureStore("", admin, folder, port)
            store.url = store.address("ca", "cert", "key")
            yield store


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
async def _running(program: str, folder: Path, options: list[str]) -> AsyncIterator[Redis]:
    socket = folder / "admin.sock"
    command = [program, "--dir", str(folder), "--unixsocket", str(socket), *_SAFE, *options]
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
