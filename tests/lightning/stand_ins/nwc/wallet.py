"""A wallet service by NIP-47 that answers over a relay, the way Alby Hub does, with faults to switch on.

Written from NIP-47 and from what Alby Hub, LNbits and coinos are known to answer. Clients of others prove it:
`tests/contract/test_nwc_stand_in.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import nostr_sdk
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.lightning.stand_ins.nwc.books import Books, RefusedError, Row, shown
from tests.lightning.world import Fate

METHODS = ("get_info", "get_balance", "make_invoice", "lookup_invoice", "list_transactions", "pay_invoice")
_REQUEST, _RESPONSE, _INFO = 23194, 23195, 13194
_NOTICES = {"nip04": 23196, "nip44_v2": 23197}
_PAGE_MAX = 50
_NO_ANSWER = frozenset({Fate.ANSWER_LOST, Fate.SLOW_THEN_PAID, Fate.SLOW_THEN_FAILED})


@dataclass
class Manners:
    """Manners of this wallet, by which it differs from others, and its faults."""

    encryptions: tuple[str, ...] = ("nip44_v2", "nip04")
    methods: tuple[str, ...] = METHODS
    allowed: tuple[str, ...] | None = None
    """Methods of this connection, fewer than the wallet names, with `get_info` only if it is among them."""
    names_encryptions: bool = True
    show: Callable[[Row], dict[str, Any]] = shown
    paid_answer: Callable[[Row], dict[str, Any]] = lambda row: {"preimage": row.preimage, "fees_paid": row.fees_paid}
    """The answer to an order that was carried out."""
    refusal: tuple[str, str] | None = None
    """An error that orders to pay are answered with."""
    names_code: str = "code"
    """The name of an error's code. Wallets built with `applesauce-wallet-connect` 6.2.0 call it `type`."""
    network: str = "regtest"
    pushes: bool = True
    slow_s: float = 0
    is_rubbish: bool = False
    answers_twice: bool = False
    is_forged_first: bool = False
    """Faults come first: before its own answers, somebody else's come: from another key, and for another request."""
    hears_nothing: bool = False
    page_max: int = _PAGE_MAX


@dataclass
class NwcWallet:
    """One wallet with one connection. `cut` breaks the client's connections, where a fault needs it."""

    relays: tuple[str, ...]
    cut: Callable[[], None] = lambda: None
    clock_s: Callable[[], float] = time.time
    manners: Manners = field(default_factory=Manners)
    keys: nostr_sdk.Keys = field(default_factory=nostr_sdk.Keys.generate)
    client: nostr_sdk.Keys = field(default_factory=nostr_sdk.Keys.generate)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The events of all requests, as they came."""

    def __post_init__(self) -> None:
        self.books = Books(self.clock_s)
        self._sockets: list[ClientConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: set[str] = set()

    def url(self, *relays: str) -> str:
        """The connection URL for a client, over these relays or the wallet's own."""
        named = "&".join(f"relay={quote(relay, safe='')}" for relay in relays or self.relays)
        secret = self.client.secret_key().to_hex()
        return f"nostr+walletconnect://{self.keys.public_key().to_hex()}?{named}&secret={secret}"

    async def start(self) -> None:
        """Connect to the relays; return once it hears requests."""
        for relay in self.relays:
            socket = await connect(relay)
            self._sockets.append(socket)
            await socket.send(json.dumps(["EVENT", self._info()]))
            await socket.send(
                json.dumps(["REQ", "wallet", {"kinds": [_REQUEST], "#p": [self.keys.public_key().to_hex()]}])
            )
            while json.loads(await socket.recv())[0] != "EOSE":
                pass
            self._start(self._listen(socket))

    async def stop(self) -> None:
        sockets, self._sockets = self._sockets, []
        for socket in sockets:
            await socket.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def receive(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """The network pays an invoice."""
        await self.notify("payment_received", self.books.receive(payment_hash, amount_msat))

    async def notify(self, kind: str, row: Row) -> None:
        if self.manners.pushes:
            await self.push(kind, self.manners.show(row))

    async def push(self, kind: str, notification: dict[str, Any]) -> None:
        text = json.dumps({"notification_type": kind, "notification": notification})
        for encryption in self.manners.encryptions:
            await self.publish(self._event(_NOTICES[encryption], text, encryption, []))

    async def publish(self, event: dict[str, Any]) -> None:
        for socket in self._sockets:
            with contextlib.suppress(WebSocketException):
                await socket.send(json.dumps(["EVENT", event]))

    async def _listen(self, socket: ClientConnection) -> None:
        with contextlib.suppress(WebSocketException):
            async for text in socket:
                message = json.loads(text)
                if message[0] != "EVENT" or message[2]["id"] in self._seen:
                    continue
                if not self.manners.hears_nothing:
                    self._seen.add(message[2]["id"])
                    self._start(self._handle(message[2]))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, event: dict[str, Any]) -> None:
        tags = {tag[0]: tag[1] for tag in event["tags"]}
        if int(tags.get("expiration", self.clock_s() + 1)) < self.clock_s():
            return
        self.requests.append(event)
        encryption = tags.get("encryption", "nip04")
        if encryption not in self.manners.encryptions:
            error = {"code": "UNSUPPORTED_ENCRYPTION", "message": encryption}
            await self._answer(event, {"error": error}, self.manners.encryptions[0])
            return
        asked = json.loads(self._decrypted(event, encryption))
        if self.manners.slow_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), self.manners.slow_s)
        async for answer in self._answers(asked["method"], asked["params"]):
            await self._answer(event, {"result_type": asked["method"], **answer}, encryption)

    async def _answers(self, method: str, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            if method not in (self.manners.allowed or (*self.manners.methods, "get_info")):
                raise RefusedError("RESTRICTED", f"This app does not have the {method} scope")
            if method == "pay_invoice":
                async for result in self._pay(params):
                    yield {"result": result}
            else:
                yield {"result": getattr(self, f"_{method}")(params)}
        except RefusedError as error:
            yield {"error": {self.manners.names_code: error.code, "message": str(error)}}

    async def _pay(self, params: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if self.manners.refusal is not None:
            raise RefusedError(*self.manners.refusal)
        fate = self.books.fates[0] if self.books.fates else Fate.PAID
        if fate is Fate.NOT_RECEIVED:
            self.books.fates.pop(0)
            self.cut()
            return
        row = self.books.order(params["invoice"])
        if fate is Fate.ANSWER_LOST:
            self.cut()
        if fate in _NO_ANSWER or fate is Fate.PENDING:
            return
        if fate is Fate.FAILED:
            raise RefusedError("PAYMENT_FAILED", "no route")
        yield self.manners.paid_answer(row)
        own = self.books.invoice(row.payment_hash)
        if own is not None:
            await self.notify("payment_received", own)

    def _get_info(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "alias": "stand-in",
            "color": "#ff9900",
            "pubkey": self.keys.public_key().to_hex(),
            "network": self.manners.network,
            "block_height": 1,
            "block_hash": "00" * 32,
            "methods": list(self.manners.methods),
            "notifications": ["payment_received", "payment_sent"] if self.manners.pushes else [],
        }

    def _get_balance(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"balance": self.books.balance_msat}

    def _get_budget(self, params: dict[str, Any]) -> dict[str, Any]:
        books = self.books
        if not books.budget_msat:
            return {}
        return {"used_budget": books.spent_msat, "total_budget": books.budget_msat, "renewal_period": "monthly"}

    def _make_invoice(self, params: dict[str, Any]) -> dict[str, Any]:
        row = self.books.make_invoice(params["amount"], params.get("description", ""), params.get("expiry"))
        return self.manners.show(row)

    def _lookup_invoice(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("payment_hash")
        found = [row for row in self.books.rows if wanted in (None, row.payment_hash)]
        found = [row for row in found if params.get("invoice") in (None, row.invoice)]
        if not found:
            raise RefusedError("NOT_FOUND", "The transaction requested was not found")
        # Settled rows come first, and of these the newest, whichever direction it has.
        return self.manners.show(max(found, key=lambda row: (row.settled_at or 0, row.at)))

    def _list_transactions(self, params: dict[str, Any]) -> dict[str, Any]:
        rows = self.books.listed(params.get("type"), unpaid=params.get("unpaid", False))
        since, until = params.get("from", 0), params.get("until") or self.clock_s() + 60
        rows = [row for row in rows if since <= row.created_at <= until]
        limit = min(params.get("limit") or self.manners.page_max, self.manners.page_max)
        offset = params.get("offset", 0)
        page = [self.manners.show(row) for row in rows[offset : offset + limit]]
        return {"transactions": page, "total_count": len(rows)}

    async def _answer(self, request: dict[str, Any], answer: dict[str, Any], encryption: str) -> None:
        text = '<html>"result": [{' if self.manners.is_rubbish else json.dumps(answer)
        if self.manners.is_forged_first:
            stranger = nostr_sdk.Keys.generate()
            forged = json.dumps({"result_type": answer.get("result_type"), "result": {"balance": 1}})
            await self.publish(self._event(_RESPONSE, forged, encryption, [["e", request["id"]]], signer=stranger))
            await self.publish(self._event(_RESPONSE, forged, encryption, [["e", "ab" * 32]]))
        made = self._event(_RESPONSE, text, encryption, [["e", request["id"]]])
        await self.publish(made)
        if self.manners.answers_twice:
            await self.publish(made)
            await self.publish(self._event(_RESPONSE, text, encryption, [["e", request["id"]]]))

    def _decrypted(self, event: dict[str, Any], encryption: str) -> str:
        decrypt = self.keys.nip04_decrypt if encryption == "nip04" else self.keys.nip44_decrypt
        return str(decrypt(self.client.public_key(), event["content"]))

    def _event(
        self, kind: int, text: str, encryption: str, tags: list[list[str]], signer: nostr_sdk.Keys | None = None
    ) -> dict[str, Any]:
        signer = signer or self.keys
        encrypt = signer.nip04_encrypt if encryption == "nip04" else signer.nip44_encrypt
        content = encrypt(self.client.public_key(), text)
        return _signed(signer, kind, content, [["p", self.client.public_key().to_hex()], *tags])

    def _info(self) -> dict[str, Any]:
        tags = [["encryption", " ".join(self.manners.encryptions)]] if self.manners.names_encryptions else []
        tags += [["notifications", "payment_received payment_sent"]] if self.manners.pushes else []
        return _signed(self.keys, _INFO, " ".join(self.manners.methods), tags)


def _signed(keys: nostr_sdk.Keys, kind: int, content: str, tags: list[list[str]]) -> dict[str, Any]:
    made = [nostr_sdk.Tag.parse(tag) for tag in tags]
    event = nostr_sdk.EventBuilder(nostr_sdk.Kind(kind), content).tags(made).finalize(keys)
    signed: dict[str, Any] = json.loads(event.as_json())
    return signed
