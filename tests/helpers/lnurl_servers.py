"""Servers of Lightning addresses (LNURL-pay), played on real sockets, with faults; and a fake of the port."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import parse_qs, urlsplit

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.destinations import Destination, encoded
from satmeter.actors.domain.payments.payouts import PayoutTarget
from tests.helpers.fakes import Gate
from tests.helpers.invoices import SIGNATURE_WORDS, as_field, as_words, signed_words
from tests.helpers.webhooks import serving

METADATA = json.dumps([["text/plain", "Sats for me"], ["text/identifier", "me@example.org"]])
_numbers = count(1)


def invoice_of(
    amount_msat: int,
    *,
    memo_hash: str | None = None,
    expiry_s: int = 600,
    network: str = "bcrt",
    age_s: int = 0,
    at_s: int | None = None,
) -> str:
    """An invoice of another node; with a hash in place of its description, if one is given."""
    number = next(_numbers)
    plain = sign_invoice(
        "22" * 32,
        payment_hash=f"{number:064x}",
        payment_secret="33" * 32,
        amount_msat=Msat(amount_msat),
        memo="",
        at_s=(int(time.time()) if at_s is None else at_s) - age_s,
        expiry_s=expiry_s,
    )
    human_part, words = bolt11_codec.decode(plain)
    human_part = human_part.replace("lnbcrt", f"ln{network}", 1)
    body = words[:-SIGNATURE_WORDS]
    if memo_hash is not None:
        # Of an empty memo only the field's head is there.
        body = body.replace(as_field("d", b""), as_field("h", as_words(bytes.fromhex(memo_hash))), 1)
    return signed_words(human_part, body)


def url_of_lnurl(lnurl: str) -> str:
    """The URL that an LNURL of any kind stands for."""
    human_part, words = bolt11_codec.decode(lnurl.lower())
    assert human_part == "lnurl"
    return bolt11_codec.whole_bytes(words).decode()


@dataclass
class Reply:
    """An answer as it goes over the wire."""

    body: object
    status: str = "200 OK"
    headers: str = ""

    def bytes(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\n{self.headers}\r\n".encode() + body


@dataclass
class LnurlServer:
    """A server of one address. `offer` and `invoice` are what it says; a test puts others in their place."""

    port: int = 0
    least_msat: int = 1_000
    most_msat: int = 100_000_000_000
    metadata: str = METADATA
    hashed: bool = True
    callback: str = "/callback?id=7"
    offer: Callable[[], Reply] | None = None
    invoice: Callable[[int], Reply] | None = None
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    scheme: str = "http"

    @property
    def base(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"me@127.0.0.1:{self.port}"

    @property
    def lnurl(self) -> str:
        return encoded(f"{self.base}/.well-known/lnurlp/me")

    def offered(self) -> dict[str, object]:
        callback = self.callback if "://" in self.callback else self.base + self.callback
        return {
            "tag": "payRequest",
            "callback": callback,
            "minSendable": self.least_msat,
            "maxSendable": self.most_msat,
            "metadata": self.metadata,
            "commentAllowed": 0,
        }

    def made_for(self, amount_msat: int) -> dict[str, object]:
        described = hashlib.sha256(self.metadata.encode()).hexdigest() if self.hashed else None
        self.made.append(invoice_of(amount_msat, memo_hash=described))
        success = {"tag": "url", "description": "Thanks", "url": "http://127.0.0.1:1/"}
        return {"pr": self.made[-1], "routes": [], "successAction": success}

    def answer(self, path: str) -> Reply:
        split = urlsplit(path)
        if split.path.startswith("/.well-known/lnurlp/me"):
            return Reply(self.offered()) if self.offer is None else self.offer()
        if split.path == urlsplit(self.callback).path:
            amount_msat = int(parse_qs(split.query)["amount"][-1])
            return Reply(self.made_for(amount_msat)) if self.invoice is None else self.invoice(amount_msat)
        return Reply(b"<html>no such page", "404 Not Found")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split(" ")[1]
            self.asked.append(path)
            self.hosts += [line.partition(": ")[2] for line in head if line.lower().startswith("host: ")]
            writer.write(self.answer(path).bytes())
            await writer.drain()


@asynccontextmanager
async def lnurl_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[LnurlServer]:
    """A server of one address on 127.0.0.1."""
    played = LnurlServer(scheme="http" if tls is None else "https")
    async with serving(played.serve, tls) as port:
        played.port = port
        yield played


@dataclass
class FakeDestinations:
    """Destinations that give another invoice each time, as real ones do. `script` has what goes wrong first."""

    script: list[Exception | None] = field(default_factory=list)
    asked: list[tuple[Destination, Msat, str | None]] = field(default_factory=list)
    targets: list[PayoutTarget] = field(default_factory=list)
    gate: Gate = field(default_factory=Gate)
    closed: bool = False

    async def resolve(self, destination: Destination, amount_msat: Msat, network: str | None = None) -> PayoutTarget:
        self.asked.append((destination, amount_msat, network))
        await self.gate.pass_through()
        trouble = self.script.pop(0) if self.script else None
        if trouble is not None:
            raise trouble
        invoice = read_invoice(invoice_of(amount_msat.value, network=network or "bcrt"))
        self.targets.append(PayoutTarget(invoice.payment_request, invoice.payment_hash, invoice.amount_msat))
        return self.targets[-1]

    async def close(self) -> None:
        self.closed = True
