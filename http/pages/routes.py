"""Routes of the pages, and of the OpenAPI document that the documentation is built from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.operator_terms import own_models
from ...config.settings import Settings
from ..openapi.document import build
from ..openapi.endpoint import Endpoint
from ..request.client_address import ClientAddresses
from .assets import Assets
from .docs import docs
from .home import OwnModels, home


class Pages:
    """The pages, and the OpenAPI document that they are built from; both are built once."""

    def __init__(self, settings: Settings, clients: ClientAddresses, *, stub_node: bool) -> None:
        self._settings = settings
        self._clients = clients
        self._stub_node = stub_node
        self.assets = Assets()
        self._models = OwnModels(*(model.name for model in own_models(settings)))
        self._document = b""
        self._docs = Response()

    def describe(self, table: Sequence[Endpoint]) -> None:
        """Build the OpenAPI document and the documentation page of these routes."""
        document = build(table)
        self._document = msgspec.json.encode(document)
        self._docs = docs(document)

    async def document(self, request: Request) -> Response:
        """Answer GET /openapi.json."""
        return Response(self._document, headers={"Cache-Control": "no-cache"}, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """Answer GET /docs."""
        return self._docs

    async def home(self, request: Request) -> Response:
        """Answer GET /."""
        origin = str(request.base_url.replace(scheme=self._clients.scheme(request))).rstrip("/")
        return home(origin, self._settings, self.assets, self._models, stub_node=self._stub_node)

    async def asset(self, request: Request) -> Response:
        """Answer GET /assets/{digest}/{name}."""
        return await self.assets.show(request)
