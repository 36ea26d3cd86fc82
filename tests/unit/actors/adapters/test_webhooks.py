"""Sending of webhooks, over real sockets: signed, to the checked address and no other, and with an end."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from satmeter.actors.adapters import webhooks
from satmeter.actors.adapters.webhooks import HttpWebhooks
from satmeter.actors.domain.webhooks import Notify, secret_of
from satmeter.actors.ports import TransientError
from satmeter.config.webhook_policy import Address, WebhookTargets
from tests.helpers.jobs import JOB_ID
from tests.helpers.patience import PATIENCE_S
from tests.helpers.webhooks import receiving, saying, status

KEY = b"a key of a test"
BODY = b'{"type":"job.complete","data":{}}'


def notice(url: str, number: int = 0) -> Notify:
    return Notify(f"webhook#{number}", JOB_ID, url, f"msg_{number}", BODY)


class Names:
    """A resolver that says what a test wants, one answer after the other, and counts."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [ip_address(text) for text in answer]


def sender(*allowed: str, keys: Sequence[bytes] = (KEY,), **options: Any) -> HttpWebhooks:
    return HttpWebhooks(WebhookTargets(allowed), keys, **options)


async def test_a_notice_arrives_signed_so_that_the_standards_library_verifies_it() -> None:
    async with receiving() as receiver:
        sending = sender("127.0.0.1")
        assert await sending.send(notice(f"http://127.0.0.1:{receiver.port}/hook?a=b"))
        got = await receiver.next()
        assert got.line == "POST /hook?a=b HTTP/1.1"
        assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert got.headers["webhook-id"] == "msg_0"
        assert got.headers["content-type"] == "application/json"
        assert got.verified(secret_of(KEY, JOB_ID)) == {"type": "job.complete", "data": {}}
        with pytest.raises(Exception, match="No matching signature"):
            got.verified(secret_of(b"another key", JOB_ID))
        await sending.close()


async def test_while_the_root_key_is_changed_a_notice_is_signed_by_both_keys() -> None:
    async with receiving() as receiver:
        sending = sender("127.0.0.1", keys=(b"the new key", KEY))
        assert await sending.send(notice(f"http://127.0.0.1:{receiver.port}/hook"))
        got = await receiver.next()
        for key in (KEY, b"the new key"):
            assert got.verified(secret_of(key, JOB_ID)) == {"type": "job.complete", "data": {}}
        with pytest.raises(Exception, match="No matching signature"):
            got.verified(secret_of(b"another key", JOB_ID))
        await sending.close()


@pytest.mark.parametrize(
    ("line", "taken"), [("200 OK", True), ("204 No Content", True), ("299 Fine", True), ("410 Gone", False)]
)
async def test_what_a_receiver_says_decides(line: str, *, taken: bool) -> None:
    async with receiving(status(line)) as receiver:
        sending = sender("127.0.0.1")
        assert await sending.send(notice(f"http://127.0.0.1:{receiver.port}/")) is taken
        await sending.close()


@pytest.mark.parametrize("line", ["301 Moved", "302 Found", "307 Again", "400 Bad", "404 Not Found", "500 Oops"])
async def test_any_other_status_is_a_failure_and_no_redirect_is_followed(line: str) -> None:
    async with receiving() as elsewhere:
        answer = f"HTTP/1.1 {line}\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n"
        async with receiving(saying(answer.encode())) as receiver:
            sending = sender("127.0.0.1")
            with pytest.raises(TransientError, match="answered"):
                await sending.send(notice(f"http://127.0.0.1:{receiver.port}/"))
            await sending.close()
        assert elsewhere.received == []


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000]
)
async def test_garbage_is_a_failure(answer: bytes) -> None:
    async with receiving(saying(answer)) as receiver:
        sending = sender("127.0.0.1")
        with pytest.raises(TransientError):
            await sending.send(notice(f"http://127.0.0.1:{receiver.port}/"))
        await sending.close()


async def test_a_body_without_end_is_not_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
            await writer.drain()

    async with receiving(endless) as receiver:
        sending = sender("127.0.0.1")
        async with asyncio.timeout(PATIENCE_S):
            assert await sending.send(notice(f"http://127.0.0.1:{receiver.port}/"))
        await sending.close()


async def test_a_receiver_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with receiving(silent) as receiver:
        sending = sender("127.0.0.1", attempt_s=0.1)
        with pytest.raises(TransientError, match="too long"):
            await sending.send(notice(f"http://127.0.0.1:{receiver.port}/"))
        await sending.close()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::1"]
)
async def test_a_name_that_stands_for_an_inner_address_is_never_connected_to(address: str) -> None:
    async with receiving() as receiver:
        names = Names(["8.8.8.8", address])
        sending = sender(resolve=names, attempt_s=2)
        with pytest.raises(TransientError, match="NotPublicError"):
            await sending.send(notice("https://example.org/"))
        assert names.asked == ["example.org"]
        assert receiver.received == []
        await sending.close()


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to() -> None:
    """A name that stands for something else at the second look (DNS rebinding) gets no second look."""
    async with receiving() as receiver:
        names = Names(["127.0.0.1"], ["10.255.255.1"])
        # The name itself is not allowed, only the network of its first answer.
        sending = sender("127.0.0.0/8", "rebinding.example", resolve=names)
        assert await sending.send(notice(f"http://rebinding.example:{receiver.port}/"))
        assert names.asked == ["rebinding.example"]
        assert (await receiver.next()).headers["host"] == f"rebinding.example:{receiver.port}"
        await sending.close()


async def test_an_address_that_is_not_allowed_any_more_is_not_sent_to() -> None:
    """The operator took it out of the setting after the job was made."""
    async with receiving() as receiver:
        sending = sender()
        with pytest.raises(TransientError, match="not allowed"):
            await sending.send(notice(f"http://127.0.0.1:{receiver.port}/"))
        assert receiver.received == []
        await sending.close()


async def test_a_name_that_nobody_knows_is_a_failure() -> None:
    sending = sender(resolve=Names(OSError("no such name")))
    with pytest.raises(TransientError):
        await sending.send(notice("https://example.org/"))
    await sending.close()


async def test_the_systems_own_resolver_is_asked_by_default() -> None:
    async with receiving() as receiver:
        sending = sender("localhost")
        assert await sending.send(notice(f"http://localhost:{receiver.port}/"))
        await sending.close()


# TLS


def certificate(name: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server with a certificate for this name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = directory / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=made.public_bytes(Encoding.PEM).decode())


async def test_tls_is_verified_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server, client = certificate("receiver.example", tmp_path)
    async with receiving(tls=server) as receiver:
        sending = sender("receiver.example", "other.example", resolve=Names(["127.0.0.1"]), tls=client)
        assert await sending.send(notice(f"https://receiver.example:{receiver.port}/"))
        with pytest.raises(TransientError):
            await sending.send(notice(f"https://other.example:{receiver.port}/"))
        await sending.close()
        distrustful = sender("receiver.example", resolve=Names(["127.0.0.1"]))
        with pytest.raises(TransientError):
            await distrustful.send(notice(f"https://receiver.example:{receiver.port}/"))
        await distrustful.close()
    assert len(receiver.received) == 1


# Bounds


async def test_a_dead_receiver_takes_only_its_own_slots_and_is_soon_left_alone() -> None:
    held = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()

    async with receiving(silent) as dead, receiving() as alive:
        sending = sender("dead.example", "alive.example", resolve=Names(["127.0.0.1"]), attempt_s=3)
        waiting = [
            asyncio.create_task(sending.send(notice(f"http://dead.example:{dead.port}/", number)))
            for number in range(40)
        ]
        for _ in range(webhooks._PER_TARGET):
            await dead.next()
        assert await sending.send(notice(f"http://alive.example:{alive.port}/"))
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, TransientError) for outcome in outcomes)
        # Those behind the first ones were told at once, instead of waiting for their own time-out.
        assert len(dead.received) < 2 * webhooks._PER_TARGET
        held.set()
        await sending.close()


async def test_a_receiver_that_refuses_politely_is_not_left_alone() -> None:
    async with receiving(status("404 Not Found")) as receiver:
        sending = sender("127.0.0.1")
        for number in range(2 * webhooks._FAILURES_MAX):
            with pytest.raises(TransientError, match="answered 404"):
                await sending.send(notice(f"http://127.0.0.1:{receiver.port}/", number))
        assert len(receiver.received) == 2 * webhooks._FAILURES_MAX
        await sending.close()


async def test_receivers_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_TARGETS_MAX", 4)
    sending = sender(resolve=Names(OSError("no such name")))
    for number in range(20):
        with pytest.raises(TransientError):
            await sending.send(notice(f"https://h{number}.example/"))
    assert len(sending._receivers) <= 4
    await sending.close()
