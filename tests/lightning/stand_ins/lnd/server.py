"""REST interface of the node that stands in for LND, with faults to switch on.

Written from LND's `lightning.swagger.json` and `router.swagger.json`. As behind gRPC's gateway, an error is
`{"code", "message", "details"}` with the status that belongs to its code; in a stream it stands under `error`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import msgspec
from aiohttp import web

from satmeter.actors.adapters.lnd.rights import NEEDED
from tests.lightning.stand_ins.lnd.macaroons import bake, refusal
from tests.lightning.stand_ins.lnd.node import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    UNKNOWN,
    Ending,
    LndError,
    LndNode,
    shown_invoice,
    shown_payment,
)
from tests.lightning.world import Fate

_STATUSES = {INVALID_ARGUMENT: 400, NOT_FOUND: 404, 6: 409, UNKNOWN: 500}
_ENDINGS = {
    Fate.FAILED: Ending.FAILED,
    Fate.SLOW_THEN_FAILED: Ending.PENDING,
    Fate.SLOW_THEN_PAID: Ending.PENDING,
    Fate.PENDING: Ending.PENDING,
    Fate.REFUSED_FUNDS: Ending.NO_FUNDS,
}
_INVOICE_FIELDS = {"memo", "value", "value_msat", "expiry", "private", "r_preimage", "r_hash", "description_hash"}
_ORDER_FIELDS = {
    "payment_request",
    "fee_limit_msat",
    "fee_limit_sat",
    "timeout_seconds",
    "no_inflight_updates",
    "allow_self_payment",
    "max_parts",
}

NEEDED_RIGHTS = tuple(f"uri:{name}" for name in NEEDED)

Handler = Callable[[web.Request], Any]


class LndServer:
    """A server before a node's books. `url` is fixed from its first start on."""

    def __init__(self, node: LndNode, *, tls: ssl.SSLContext | None = None, slow_then_s: float = 1.5) -> None:
        self.node = node
        self.root_key = secrets.token_bytes(32)
        self.slow_s = 0.0
        self.is_rubbish = False
        self.fates: list[Fate] = []
        self.asked: list[str] = []
        """Methods and paths that came, in order."""
        self._slow_then_s = slow_then_s
        self._tls = tls
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._later: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    def macaroon(self, rights: Collection[str] = NEEDED_RIGHTS) -> bytes:
        """A macaroon of this node; by default with just the rights that we ask for."""
        return bake(self.root_key, rights)

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End all connections. The books stay."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def close(self) -> None:
        """Stop, and end what is under way."""
        await self.stop()
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._faults])
        unary, stream = self._unary, self._stream
        app.add_routes(
            [
                web.get("/v1/getinfo", unary("GetInfo", "info:read", self._info)),
                web.get("/v1/balance/channels", unary("ChannelBalance", "offchain:read", self._balance)),
                web.post("/v1/invoices", unary("AddInvoice", "invoices:write", self._add_invoice)),
                web.get("/v1/invoices", unary("ListInvoices", "invoices:read", self._list_invoices)),
                web.get("/v1/invoice/{r_hash_str}", unary("LookupInvoice", "invoices:read", self._show_invoice)),
                web.get("/v1/payments", unary("ListPayments", "offchain:read", self._list_payments)),
                web.get("/v1/invoices/subscribe", stream("SubscribeInvoices", "invoices:read", self._subscribe)),
                web.post("/v2/router/send", stream("SendPaymentV2", "offchain:write", self._send)),
                web.get("/v2/router/track/{hash}", stream("TrackPaymentV2", "offchain:read", self._track)),
            ]
        )
        return app

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.slow_s:
            await _later(self.slow_s)
        is_order = request.path == "/v2/router/send"
        if self.is_rubbish and not is_order:
            return web.Response(text='{"state": "SETTLED", "r_hash": [', content_type="application/json")
        if is_order and self.fates and self.fates[0] is Fate.NOT_RECEIVED:
            self.fates.pop(0)
            _cut(request)
            return web.Response()
        try:
            found: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            words = {404: "Not Found", 405: "Method Not Allowed"}.get(error.status, error.reason)
            return _failure(LndError(NOT_FOUND if error.status == 404 else 12, words), error.status)
        return found

    def _refusal(self, request: web.Request, method: str, right: str) -> LndError | None:
        if self.node.is_locked:
            return LndError(UNKNOWN, "wallet locked, unlock it to enable full RPC access")
        service = "routerrpc.Router" if method.endswith("V2") else "lnrpc.Lightning"
        macaroon = request.headers.get("Grpc-Metadata-macaroon")
        words = refusal(self.root_key, macaroon, f"/{service}/{method}", right)
        return None if words is None else LndError(UNKNOWN, words)

    def _unary(self, method: str, right: str, answer: Callable[[web.Request], Any]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                refused = self._refusal(request, method, right)
                if refused is not None:
                    raise refused
                return web.json_response(await answer(request))
            except LndError as error:
                return _failure(error)

        return handler

    def _stream(self, method: str, right: str, updates: Callable[[web.Request], AsyncIterator[Any]]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            try:
                refused = self._refusal(request, method, right)
                if refused is not None:
                    raise refused
                async for update in updates(request):
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(msgspec.json.encode({"result": update}) + b"\n")
            except LndError as error:
                return web.json_response({"error": _status(error)}, status=_STATUSES[error.code])
            except ConnectionError:
                return response
            return response

        return handler

    # What is asked

    async def _info(self, _: web.Request) -> dict[str, Any]:
        return {
            "version": "0.19.0-beta commit=v0.19.0-beta",
            "identity_pubkey": f"02{self.node.key}",
            "alias": "stand-in",
            "num_active_channels": 1,
            "synced_to_chain": self.node.is_synced,
            "synced_to_graph": True,
            "block_height": 900_000,
            "chains": [{"chain": "bitcoin", "network": "regtest"}],
        }

    async def _balance(self, _: web.Request) -> dict[str, Any]:
        local, remote = self.node.local_msat, self.node.remote_msat
        pending = sum(
            payment.target.amount_msat.value for payment in self.node.payments.values() if not payment.is_over
        )
        return {
            "balance": str((local - pending) // 1_000),
            "pending_open_balance": "0",
            "local_balance": _amount(local - pending),
            "remote_balance": _amount(remote),
            "unsettled_local_balance": _amount(pending),
            "unsettled_remote_balance": _amount(0),
            "pending_open_local_balance": _amount(0),
            "pending_open_remote_balance": _amount(0),
        }

    async def _add_invoice(self, request: web.Request) -> dict[str, Any]:
        order = await _body(request, _INVOICE_FIELDS)
        for name in {"r_preimage", "description_hash"} & order.keys():
            order[name] = base64.b64decode(order[name])
        made = self.node.add_invoice(order)
        return {
            "r_hash": base64.b64encode(bytes.fromhex(made.payment_hash)).decode(),
            "payment_request": made.payment_request,
            "add_index": str(made.add_index),
            "payment_addr": base64.b64encode(secrets.token_bytes(32)).decode(),
        }

    async def _show_invoice(self, request: web.Request) -> dict[str, Any]:
        try:
            payment_hash = bytes.fromhex(request.match_info["r_hash_str"]).hex()
        except ValueError as error:
            raise LndError(UNKNOWN, f"encoding/hex: {error}") from None
        return shown_invoice(self.node.invoice(payment_hash))

    async def _list_invoices(self, request: web.Request) -> dict[str, Any]:
        rows = [shown_invoice(self.node.invoice(payment_hash)) for payment_hash in self.node.invoices]
        if request.query.get("pending_only") == "true":
            rows = [row for row in rows if row["state"] in ("OPEN", "ACCEPTED")]
        rows = _paged(request, rows, "add_index", int(request.query.get("num_max_invoices", "0") or 0) or 100)
        return {"invoices": rows, **_offsets(rows, "add_index")}

    async def _list_payments(self, request: web.Request) -> dict[str, Any]:
        payments = list(self.node.payments.values())
        if request.query.get("include_incomplete") != "true":
            payments = [payment for payment in payments if payment.status == "SUCCEEDED"]
        rows = [shown_payment(self.node, payment) for payment in payments]
        rows = _paged(request, rows, "payment_index", int(request.query.get("max_payments", "0") or 0) or len(rows))
        return {"payments": rows, **_offsets(rows, "payment_index"), "total_num_payments": "0"}

    async def _subscribe(self, request: web.Request) -> AsyncIterator[dict[str, Any]]:
        events: asyncio.Queue[Any] = asyncio.Queue()
        self.node.listeners.add(events)
        try:
            for name in ("add_index", "settle_index"):
                after = int(request.query.get(name, "0") or 0)
                missed = [row for row in self.node.invoices.values() if after and getattr(row, name) > after]
                for row in sorted(missed, key=lambda row: int(getattr(row, name))):
                    yield shown_invoice(row)
            while request.transport is not None:
                with contextlib.suppress(TimeoutError):
                    yield shown_invoice(await asyncio.wait_for(events.get(), 0.2))
        finally:
            self.node.listeners.discard(events)

    async def _send(self, request: web.Request) -> AsyncIterator[dict[str, Any]]:
        order = await _body(request, _ORDER_FIELDS)
        fate = self.fates.pop(0) if self.fates else Fate.PAID
        payment = self.node.begin_payment(order, _ENDINGS.get(fate, Ending.PAID))
        if fate is Fate.ANSWER_LOST:
            _cut(request)
            return
        if fate in (Fate.SLOW_THEN_PAID, Fate.SLOW_THEN_FAILED):
            task = asyncio.create_task(self._end_later(payment.target.payment_hash, fate is Fate.SLOW_THEN_PAID))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        async for update in self._updates(request, payment.target.payment_hash, order.get("no_inflight_updates")):
            yield update

    async def _track(self, request: web.Request) -> AsyncIterator[dict[str, Any]]:
        try:
            payment_hash = base64.urlsafe_b64decode(request.match_info["hash"]).hex()
        except (binascii.Error, ValueError) as error:
            words = f"type mismatch, parameter: payment_hash, error: {error}"
            raise LndError(INVALID_ARGUMENT, words) from None
        self.node.payment(payment_hash)
        quiet = request.query.get("no_inflight_updates") == "true"
        async for update in self._updates(request, payment_hash, quiet):
            yield update

    async def _updates(self, request: web.Request, payment_hash: str, quiet: bool | None) -> AsyncIterator[Any]:
        payment = self.node.payment(payment_hash)
        if not payment.is_over and not quiet:
            yield shown_payment(self.node, payment)
        while not payment.is_over:
            if request.transport is None:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(payment.changed.wait(), 0.2)
        yield shown_payment(self.node, payment)

    async def _end_later(self, payment_hash: str, is_paid: bool) -> None:
        await _later(self._slow_then_s)
        self.node.end(payment_hash, is_paid=is_paid, fee_msat=self.node.route_fee_msat)


async def _later(seconds: float) -> None:
    """Answer this much later, as a slow node does."""
    moment = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, moment.set)
    await moment.wait()


def _cut(request: web.Request) -> None:
    """Break the connection, as a network does."""
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()


def _amount(msat: int) -> dict[str, str]:
    return {"sat": str(msat // 1_000), "msat": str(msat)}


def _status(error: LndError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "details": []}


def _failure(error: LndError, status: int | None = None) -> web.Response:
    return web.json_response(_status(error), status=status or _STATUSES[error.code])


async def _body(request: web.Request, fields: Collection[str]) -> dict[str, Any]:
    try:
        body: dict[str, Any] = msgspec.json.decode(await request.read(), type=dict[str, Any])
    except msgspec.DecodeError:
        raise LndError(INVALID_ARGUMENT, "unexpected EOF") from None
    unknown = body.keys() - set(fields)
    if unknown:
        raise LndError(INVALID_ARGUMENT, f'proto: unknown field "{min(unknown)}"')
    return body


def _paged(request: web.Request, rows: list[dict[str, Any]], index: str, most: int) -> list[dict[str, Any]]:
    """A page of rows, the oldest first, in either direction."""
    offset, rows = int(request.query.get("index_offset", "0") or 0), sorted(rows, key=lambda row: int(row[index]))
    if request.query.get("reversed") == "true":
        return [row for row in rows if not offset or int(row[index]) < offset][-most:]
    return [row for row in rows if int(row[index]) > offset][:most]


def _offsets(rows: list[dict[str, Any]], index: str) -> dict[str, str]:
    first, last = (rows[0][index], rows[-1][index]) if rows else ("0", "0")
    return {"first_index_offset": first, "last_index_offset": last}
