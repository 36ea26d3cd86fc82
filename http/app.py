"""The HTTP front: every route at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Lifespan

from . import operations as documented
from .client import Clients
from .demo import Demo
from .dev import Dev
from .edge import Edge
from .endpoint import Endpoint
from .front import Front
from .health import Health
from .jobs import Jobs
from .metrics import Metrics
from .openapi import build
from .pages.docs import docs
from .pages.home import home
from .pricing import Pricing


def create_app(front: Front, *, lifespan: Lifespan[Any] | None = None) -> ASGIApp:
    """The front as an ASGI application. Raises `ValueError` when a configured model has no price."""
    metrics = Metrics()
    routes = [endpoint.route() for endpoint in endpoints(front, metrics)]
    return Edge(Router(routes, redirect_slashes=False, lifespan=lifespan), metrics)


def endpoints(front: Front, metrics: Metrics) -> Sequence[Endpoint]:
    """What exists with these settings. The first line that fits a request is taken, so what is asked most is above."""
    clients = Clients(front.settings.trusted_proxies, front.id_key)
    jobs = Jobs(front, clients)
    health = Health(front)
    stub_node = front.stub_node if not front.settings.production else None
    pages = Pages(front.settings.eval_fee_sats, stub_node=stub_node is not None)
    table = [
        Endpoint("GET", "/jobs/{jobId}", jobs.show, documented.SHOW_JOB),
        Endpoint("POST", "/jobs", jobs.create, documented.CREATE_JOB),
        Endpoint("GET", "/jobs/{jobId}/events", jobs.events, documented.WATCH_JOB),
        Endpoint("GET", "/demo", Demo(front, clients).ask, documented.DEMO),
        Endpoint("GET", "/pricing", Pricing(front).show, documented.PRICING),
        Endpoint("GET", "/healthz", health.alive, documented.HEALTH),
        Endpoint("GET", "/readyz", health.ready, documented.READY),
        Endpoint("GET", "/metrics", metrics.show, documented.METRICS),
        Endpoint("GET", "/openapi.json", pages.document, documented.DOCUMENT),
        Endpoint("GET", "/docs", pages.docs, documented.DOCS),
        Endpoint("GET", "/", pages.home, documented.HOME),
    ]
    if stub_node is not None:
        table.append(Endpoint("POST", "/dev/stub/pay/{paymentHash}", Dev(stub_node).pay, documented.PAY_STUB))
    pages.describe(table)
    return table


class Pages:
    """The pages, and the document that they are made of; both are built once."""

    def __init__(self, eval_fee_sats: int, *, stub_node: bool) -> None:
        self._eval_fee_sats = eval_fee_sats
        self._stub_node = stub_node
        self._document = b""
        self._docs = Response()

    def describe(self, table: Sequence[Endpoint]) -> None:
        """Makes the document of these routes."""
        document = build(table)
        self._document = msgspec.json.encode(document)
        self._docs = docs(document)

    async def document(self, request: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._document, headers={"Cache-Control": "no-cache"}, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """GET /docs."""
        return self._docs

    async def home(self, request: Request) -> Response:
        """GET /."""
        origin = str(request.base_url).rstrip("/")
        return home(origin, self._eval_fee_sats, stub_node=self._stub_node)
