"""HTTP API of phoenixd 0.8, as its `Api.kt` and its API reference describe it, over books in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.lightning.stand_ins.phoenixd.books import Books, Outgoing
from tests.lightning.stand_ins.phoenixd.faults import Faults, UnderWay
from tests.lightning.world import Fate

_DESCRIPTION_MAX_CHARS: Final = 128
_PAGE: Final = 20
_UNAUTHORISED: Final = "Invalid authentication (use basic auth with the http password set in phoenix.conf)"
_UNKNOWN_PATH: Final = "Unknown endpoint (check api doc)"
_RUBBISH: Final = b'<html><title>502</title>{"isPaid": tr'

Handler = Callable[[Request], Awaitable[Response]]


class _BadRequestError(Exception):
    """A form that phoenixd does not take; the text is its own way of saying why."""


class Broken(Response):
    """An answer whose connection breaks before its body is there."""

    def __init__(self) -> None:
        super().__init__(b"never sent")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head alone."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})


class Phoenixd:
    """A phoenixd without its process: the application, its books, and the faults to switch on."""

    def __init__(self, books: Books, faults: Faults, *, password: str, limited_password: str) -> None:
        self.books = books
        self.faults = faults
        self._password = password
        self._limited_password = limited_password
        self._listeners: set[asyncio.Queue[str]] = set()
        routes = [
            self._route("GET", "/getinfo", self._get_info),
            self._route("GET", "/getbalance", self._get_balance),
            self._route("GET", "/estimateliquidityfees", self._estimate),
            self._route("POST", "/createinvoice", self._create_invoice),
            self._route("GET", "/payments/incoming", self._list_incoming),
            self._route("GET", "/payments/incoming/{payment_hash}", self._incoming),
            self._route("GET", "/payments/outgoing", self._list_outgoing),
            self._route("GET", "/payments/outgoing/{payment_id}", self._outgoing),
            self._route("GET", "/payments/outgoingbyhash/{payment_hash}", self._outgoing_by_hash),
            self._route("POST", "/payinvoice", self._pay_invoice, full=True),
            self._route("POST", "/payoffer", self._pay_offer, full=True),
            WebSocketRoute("/websocket", self._events),
        ]
        handlers: Mapping[Any, Any] = {404: _not_found, 405: _wrong_method}
        self.app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)

    def receive(self, payment_hash: str, amount_msat: int | None = None) -> bool:
        """Have the network pay an invoice of ours, and tell the listeners. False where the node does not take it."""
        paid = self.books.receive(payment_hash, amount_msat)
        if paid is not None and not self.faults.is_muted:
            self.push(paid.payment_hash, paid.received_msat // 1_000, paid.external_id)
        return paid is not None

    def push(self, payment_hash: str, amount_sat: int, external_id: str | None = None) -> None:
        """Tell the listeners of a payment, true or not."""
        event = {
            "type": "payment_received",
            "timestamp": self.books.now_ms(),
            "amountSat": amount_sat,
            "paymentHash": payment_hash,
            "externalId": external_id,
        }
        for listener in self._listeners:
            listener.put_nowait(json.dumps({name: value for name, value in event.items() if value is not None}))

    def end_payment(self, payment_hash: str, *, paid: bool) -> None:
        """End a payment that was to stay pending."""
        under_way = self.faults.under_way.pop(payment_hash)
        preimage = self.books.preimage_of(payment_hash)
        if paid and preimage is not None:
            self.books.pay(under_way.payment, preimage)
        else:
            self.books.fail(under_way.payment)
        under_way.ended.set()

    # The API

    def _route(self, method: str, path: str, handler: Handler, *, full: bool = False) -> Route:
        async def endpoint(request: Request) -> Response:
            if self.faults.slow_s:
                await _hold(self.faults.slow_s)
            if not self._may(request, full=full):
                return PlainTextResponse(_UNAUTHORISED, 401, {"WWW-Authenticate": "Basic realm=Ktor Server"})
            if self.faults.is_rubbish:
                return Response(_RUBBISH, media_type="text/html")
            try:
                return await handler(request)
            except _BadRequestError as error:
                return PlainTextResponse(str(error), 400)

        return Route(path, endpoint, methods=[method])

    def _may(self, connection: HTTPConnection, *, full: bool) -> bool:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        try:
            password = base64.b64decode(token).decode().partition(":")[2]
        except ValueError:
            return False
        allowed = {self._password} if full else {self._password, self._limited_password}
        return scheme.lower() == "basic" and password in allowed

    async def _get_info(self, request: Request) -> Response:
        return JSONResponse(
            {
                "nodeId": "023a882b070d0b9b1c8db2975f2dcc65d1ffa22e00085506ab24799d6d95d658a2",
                "channels": self.books.channels,
                "chain": "regtest",
                "blockHeight": 870_000,
                "version": self.faults.version,
            }
        )

    async def _get_balance(self, request: Request) -> Response:
        books = self.books
        balance = {"balanceSat": books.balance_msat // 1_000, "feeCreditSat": books.fee_credit_msat // 1_000}
        return JSONResponse(balance)

    async def _estimate(self, request: Request) -> Response:
        amount_sats = _number(request.query_params, "amountSat")
        if self.faults.is_unconnected:
            raise _BadRequestError(f"no available funding rates for amount={amount_sats} sat")
        mining, service = self.books.liquidity_fees(amount_sats)
        return JSONResponse({"miningFeeSat": mining, "serviceFeeSat": service})

    async def _create_invoice(self, request: Request) -> Response:
        form = await _form(request)
        description = form.get("description")
        if description is not None and len(description) > _DESCRIPTION_MAX_CHARS:
            raise _BadRequestError("Request parameter description is too long (max 128 characters)")
        if (description is None) == (form.get("descriptionHash") is None):
            raise _BadRequestError("Must provide either a description or descriptionHash")
        amount_sat = _number(form, "amountSat") if "amountSat" in form else None
        expiry_s = _number(form, "expirySeconds") if "expirySeconds" in form else 3_600
        hashed = bytes.fromhex(form["descriptionHash"]) if "descriptionHash" in form else None
        made = self.books.invoice(amount_sat, description or "", expiry_s, form.get("externalId"), hashed)
        answer = {"amountSat": amount_sat, "paymentHash": made.payment_hash, "serialized": made.payment_request}
        return JSONResponse({name: value for name, value in answer.items() if value is not None})

    async def _list_incoming(self, request: Request) -> Response:
        query = request.query_params
        rows = [row for row in self.books.incoming.values() if query.get("externalId") in (None, row.external_id)]
        now_ms, at = self.books.now_ms(), "createdAt" if query.get("all") == "true" else "completedAt"
        shown = sorted((row.shown(now_ms) for row in rows), key=lambda row: int(row.get(at, 0)), reverse=True)
        return JSONResponse(self._page(query, [row for row in shown if at in row], lambda row: int(row[at])))

    def _page(self, query: Mapping[str, str], rows: list[Any], time_of: Callable[[Any], int]) -> list[Any]:
        since, until = _number(query, "from", 0), _number(query, "to", self.books.now_ms())
        limit, offset = _number(query, "limit", _PAGE), _number(query, "offset", 0)
        return [row for row in rows if since <= time_of(row) <= until][offset : offset + limit]

    async def _incoming(self, request: Request) -> Response:
        row = self.books.incoming.get(_hash(request))
        return _not_there() if row is None else JSONResponse(row.shown(self.books.now_ms()))

    async def _list_outgoing(self, request: Request) -> Response:
        query, listing_all = request.query_params, request.query_params.get("all") == "true"
        rows = [
            row.shown() for row in self.books.outgoing if listing_all or row.preimage is not None
        ] + self.books.purchases
        at = "createdAt" if listing_all else "completedAt"
        return JSONResponse(self._page(query, rows, lambda row: int(row.get(at, 0))))

    async def _outgoing(self, request: Request) -> Response:
        payment_id = request.path_params["payment_id"]
        found = next((row for row in self.books.outgoing if row.payment_id == payment_id), None)
        return _not_there() if found is None else JSONResponse(found.shown())

    async def _outgoing_by_hash(self, request: Request) -> Response:
        found = self.books.attempts(_hash(request))
        return JSONResponse(found[0].shown()) if found else _not_there()

    async def _pay_offer(self, request: Request) -> Response:
        raise _BadRequestError("Request parameter offer couldn't be parsed/converted to offer")

    # Payments

    async def _pay_invoice(self, request: Request) -> Response:
        form = await _form(request)
        try:
            invoice = read_invoice(form.get("invoice", ""))
        except ValueError:
            raise _BadRequestError("Request parameter invoice couldn't be parsed/converted to bolt11invoice") from None
        payment_hash = invoice.payment_hash
        fate = self.faults.next_fate()
        if fate is Fate.NOT_RECEIVED:
            return Broken()
        self.faults.orders[payment_hash] += 1
        if any(row.preimage is not None for row in self.books.attempts(payment_hash)):
            return _failed(payment_hash, "this invoice has already been paid")
        if any(row.completed_at is None for row in self.books.attempts(payment_hash)):
            return _failed(payment_hash, "another payment is in progress for that invoice")
        amount_msat = invoice.amount_msat.value
        payment = self.books.begin(invoice.payment_request, payment_hash, amount_msat)
        if self.books.balance_msat < 0 or fate is Fate.REFUSED_FUNDS:
            self.books.fail(payment)
            lacking = self.books.capacity_msat == 0
            return _failed(payment_hash, _NO_CHANNEL if lacking else "not enough funds in wallet to afford payment")
        return await self._carry_out(payment, fate)

    async def _carry_out(self, payment: Outgoing, fate: Fate) -> Response:
        if fate is Fate.PENDING:
            under_way = self.faults.under_way[payment.payment_hash] = UnderWay(payment)
            await under_way.ended.wait()
        elif fate in (Fate.SLOW_THEN_PAID, Fate.SLOW_THEN_FAILED):
            await _hold(self.faults.late_s)
        preimage = self.books.preimage_of(payment.payment_hash)
        if payment.completed_at is None:
            if preimage is None or fate in (Fate.FAILED, Fate.SLOW_THEN_FAILED):
                self.books.fail(payment)
            else:
                self._pay(payment, preimage)
        if fate is Fate.ANSWER_LOST:
            return Broken()
        if payment.preimage is None:
            return _failed(payment.payment_hash, "recipient node rejected the payment")
        return JSONResponse(
            {
                "recipientAmountSat": payment.amount_msat // 1_000,
                "routingFeeSat": payment.fee_msat // 1_000,
                "paymentId": payment.payment_id,
                "paymentHash": payment.payment_hash,
                "paymentPreimage": payment.preimage,
            }
        )

    def _pay(self, payment: Outgoing, preimage: str) -> None:
        self.books.pay(payment, preimage)
        own = self.books.incoming.get(payment.payment_hash)
        if own is not None and not self.faults.is_muted:
            self.push(own.payment_hash, own.received_msat // 1_000, own.external_id)

    # Events

    async def _events(self, websocket: WebSocket) -> None:
        if not self._may(websocket, full=False):
            await websocket.close(3000)
            return
        await websocket.accept()
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(queue)
        left = asyncio.ensure_future(_gone(websocket))
        try:
            while not left.done():
                news = asyncio.ensure_future(queue.get())
                await asyncio.wait((news, left), return_when=asyncio.FIRST_COMPLETED)
                if news.done():
                    await websocket.send_text(news.result())
                else:
                    news.cancel()
        finally:
            self._listeners.discard(queue)
            left.cancel()


_NO_CHANNEL: Final = "payment could not be sent through existing channels, check individual failures for more details"


async def _hold(seconds: float) -> None:
    """Hold an answer back."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


async def _gone(websocket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.receive_text()


async def _form(request: Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.form()).items()}


def _number(fields: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = fields.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise _BadRequestError(f"Request parameter {name} couldn't be parsed/converted to integer") from None


def _hash(request: Request) -> str:
    payment_hash: str = request.path_params["payment_hash"]
    try:
        if len(bytes.fromhex(payment_hash)) == 32:
            return payment_hash.lower()
    except ValueError:
        pass
    raise _BadRequestError("Request parameter paymentHash couldn't be parsed/converted to hex32")


def _failed(payment_hash: str, reason: str) -> Response:
    return JSONResponse({"paymentHash": payment_hash, "reason": reason})


def _not_there() -> Response:
    return PlainTextResponse("Not found", 404)


async def _not_found(request: Request, error: Exception) -> Response:
    return PlainTextResponse(_UNKNOWN_PATH, 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    return PlainTextResponse("Invalid http method (use the correct GET/POST)", 405)
