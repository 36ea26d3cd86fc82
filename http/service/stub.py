"""Routes for development, which exist only with the stub node."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ...actors.domain.errors import RefusedError, not_found
from ..payments import views
from ..request.body import read_json
from ..response import json
from ..state import StubPayments
from . import schemas as around

_HASH: Final = re.compile(r"[0-9a-f]{64}")


class StubRoutes:
    """The routes under /dev."""

    def __init__(self, stub_node: StubPayments, body_limit_bytes: int) -> None:
        self._stub_node = stub_node
        self._body_limit_bytes = body_limit_bytes

    async def pay(self, request: Request) -> Response:
        """Mark a stub invoice paid, as a wallet would: POST /dev/stub/pay/{paymentHash}."""
        payment_hash: str = request.path_params["paymentHash"]
        preimage = await self._stub_node.pay(payment_hash) if _HASH.fullmatch(payment_hash) else None
        if preimage is None:
            raise RefusedError(not_found("invoice at the stub node"))
        return json.json_response(around.Paid(paid=True, preimage=preimage))

    async def invoice(self, request: Request) -> Response:
        """Make an invoice of a client's wallet, to try out refunds: POST /dev/stub/invoice."""
        body = await read_json(request, around.StubAmount, self._body_limit_bytes)
        return json.json_response(views.invoice(await self._stub_node.invoice(body.amount_sats)), 201)
