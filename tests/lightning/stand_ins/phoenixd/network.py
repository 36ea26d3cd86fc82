"""Network around a stand-in that is a process of its own, as HTTP: what other nodes do, and faults."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.lightning.stand_ins.phoenixd.app import Phoenixd
from tests.lightning.world import Fate


def with_network(node: Phoenixd) -> ASGIApp:
    """Return the node's application, with the network's under `/network`."""

    async def pay(request: Request) -> Response:
        form = await request.form()
        amount = form.get("amountMsat")
        taken = node.receive(str(form["paymentHash"]), None if amount is None else int(str(amount)))
        return JSONResponse({"taken": taken})

    async def invoice(request: Request) -> Response:
        form = await request.form()
        text = node.books.foreign_invoice(int(str(form["amountSat"])) * 1_000)
        return JSONResponse({"paymentRequest": text, "paymentHash": read_invoice(text).payment_hash})

    async def fate(request: Request) -> Response:
        node.faults.fates.append(Fate[str((await request.form())["fate"])])
        return JSONResponse({})

    async def end(request: Request) -> Response:
        form = await request.form()
        node.end_payment(str(form["paymentHash"]), paid=form["paid"] == "true")
        return JSONResponse({})

    routes = [Route(f"/network/{each.__name__}", each, methods=["POST"]) for each in (pay, invoice, fate, end)]
    return Starlette(routes=[*routes, Mount("/", node.app)])
