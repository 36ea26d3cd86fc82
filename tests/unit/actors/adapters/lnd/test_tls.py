"""Trust in LND's own certificate, and in no other."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from satmeter.actors.adapters.lnd.client import LndLightning
from satmeter.actors.adapters.lnd.tls import trust
from satmeter.actors.ports import TransientError
from tests.helpers.http.certificates import contexts
from tests.lightning.keys import KeyInMemory

_BODY = b'{"identity_pubkey": "02ab"}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


@contextlib.asynccontextmanager
async def node(tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve one answer for all; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_ANSWER)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


async def checked(port: int, cert_file: Path | None, host: str = "127.0.0.1") -> None:
    lightning = LndLightning(
        f"https://{host}:{port}", b"m", KeyInMemory(), verify=trust(cert_file), timeout_s=5, concurrency=2
    )
    try:
        await lightning.check()
    finally:
        await lightning.close()


async def test_a_pinned_certificate_is_trusted(tmp_path: Path) -> None:
    tls, _ = contexts(tmp_path)
    async with node(tls) as port:
        await checked(port, tmp_path / "cert.pem")


async def test_no_other_certificate_is(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    contexts(other)
    tls, _ = contexts(tmp_path)
    async with node(tls) as port:
        for cert_file in (other / "cert.pem", None):
            with pytest.raises(TransientError):
                await checked(port, cert_file)


async def test_the_name_in_the_address_must_stand_in_the_certificate(tmp_path: Path) -> None:
    tls, _ = contexts(tmp_path)
    async with node(tls) as port:
        with pytest.raises(TransientError):
            await checked(port, tmp_path / "cert.pem", host="localhost")


@pytest.mark.parametrize(
    "text", ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_a_certificate_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "cert.pem").write_text(text)
    with pytest.raises(OSError, match=r"."):
        trust(tmp_path / "cert.pem")
    with pytest.raises(FileNotFoundError):
        trust(tmp_path / "none.pem")
