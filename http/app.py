"""ASGI application of the front, with the table of all routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan

from ..actors.domain.llm.catalogue import Api
from .aliases import Aliases
from .anthropic import openapi as of_llm
from .anthropic.relay import Relays
from .anthropic.routes import MessagesRoutes
from .cors import CorsMiddleware
from .edge.gate import Gate
from .edge.limits import limits_of
from .jobs import openapi as of_jobs
from .jobs.routes import Jobs
from .lnurl import openapi as of_lnurl
from .lnurl.routes import LnurlRoutes
from .metrics import AskTotals, Metrics
from .middleware import RequestMiddleware
from .openai import openapi as of_openai
from .openai.models import Models
from .openai.over_chat import ChatOverChat
from .openai.routes import Chat
from .openapi.endpoint import Endpoint, route
from .operator.routes import OperatorPages
from .pages import openapi as of_pages
from .pages.assets import Assets
from .pages.pay import PayRoutes
from .pages.routes import Pages
from .receipts import openapi as of_receipts
from .receipts.routes import Receipts
from .request.auth import Credentials
from .request.body_room import BodyRoom
from .request.client_address import ClientAddresses
from .responses import openapi as of_responses
from .responses.routes import Responses
from .routing import FrontRouter
from .service import openapi as around
from .service.demo import Demo
from .service.health import Health
from .service.pricing import Pricing
from .service.stub import StubRoutes
from .sessions import openapi as of_sessions
from .sessions.ask import Requests
from .sessions.l402 import L402
from .sessions.routes import Sessions
from .sessions.schemas import amount_within, opening_within
from .sessions.unseen_payments import UnseenPayments
from .state import AppState
from .translation.relaying import TranslatedCalls


def metrics_of(state: AppState, totals: AskTotals | None = None) -> Metrics:
    """Return the metrics of this front, or, with the way to them, those of its whole server."""
    return Metrics(
        state.solvency,
        state.model,
        state.now_ms,
        state.findings,
        prices=state.prices,
        totals=totals,
        token=state.settings.operator_token,
    )


def create_app(state: AppState, *, lifespan: Lifespan[Any] | None = None, metrics: Metrics | None = None) -> ASGIApp:
    """Return the front as an ASGI application. Raises `ValueError` when a configured model has no price."""
    metrics = metrics_of(state) if metrics is None else metrics
    routes = [endpoint.route() for endpoint in endpoints(state, metrics)]
    routes += operator_routes(state)
    router = FrontRouter(routes, lifespan)
    router.default = Aliases(router)
    settings = state.settings
    clients = _client_addresses(state)
    largest_bytes = max(settings.body_limit_bytes, settings.llm_body_limit_bytes)
    room = BodyRoom(clients.known_origin, settings.bodies_max_bytes, largest_bytes, rate_limits=settings.rate_limits)
    gate = Gate(limits_of(settings), clients.origin)
    logs_all = settings.log_requests != "errors"
    app = RequestMiddleware(router, metrics, room, gate, state.answers, logs_all=logs_all)
    origins = settings.cors_origins
    return CorsMiddleware(app, origins, gate) if origins else app


def operator_routes(state: AppState) -> list[Route]:
    """Return the routes of the operator's page, which no document describes."""
    pages = OperatorPages(state, _client_addresses(state), Health(state), Assets())
    return [route(method, path, handler) for method, path, handler in pages.table]


def _client_addresses(state: AppState) -> ClientAddresses:
    settings = state.settings
    unknown = state.unknown_proxies if settings.production else None
    return ClientAddresses(settings.trusted_proxies, state.id_key, unknown)


def endpoints(state: AppState, metrics: Metrics) -> Sequence[Endpoint]:
    """Return the endpoints that exist with these settings. The first match wins, so frequent requests come first."""
    settings = state.settings
    clients = _client_addresses(state)
    previous = state.previous_keys
    credentials = Credentials(state.macaroon_key, None if previous is None else previous.macaroons)
    bounds = settings.session_min_sats, settings.session_max_sats
    opening, amount = opening_within(*bounds), amount_within(*bounds)
    unseen = UnseenPayments(state)
    l402 = L402(state, clients, unseen)
    jobs = Jobs(state, clients)
    sessions = Sessions(state, clients, credentials, unseen, opening, amount)
    receipts = Receipts(state, credentials)
    relays = Relays(state, l402)
    llm = MessagesRoutes(state, credentials, relays)
    chat = TranslatedCalls(state, credentials, relays, {Api.ANTHROPIC: Chat(), Api.OPENAI: ChatOverChat()})
    responses = Responses(state, credentials, relays)
    models = Models(state)
    requests = Requests(state, credentials, l402)
    health = Health(state)
    stub_node = state.stub_node if not settings.production else None
    pages = Pages(settings, clients, stub_node=stub_node is not None)
    open_session = replace(of_sessions.OPEN_SESSION, body=opening)
    top_up = replace(of_sessions.TOP_UP, body=amount)
    table = [
        Endpoint("POST", "/sessions/{sessionId}/request", requests.ask_in_session, of_sessions.ASK_IN_SESSION),
        Endpoint("GET", "/sessions/{sessionId}", sessions.show, of_sessions.SHOW_SESSION),
        Endpoint("GET", "/jobs/{jobId}", jobs.show, of_jobs.SHOW_JOB),
        Endpoint("POST", "/jobs", jobs.create, of_jobs.CREATE_JOB),
        Endpoint("GET", "/jobs/{jobId}/events", jobs.events, of_jobs.WATCH_JOB),
        Endpoint("POST", "/jobs/{jobId}/refund", jobs.refund, of_jobs.REFUND_JOB),
        Endpoint("GET", "/jobs/{jobId}/receipt", receipts.of_job, of_receipts.JOB_RECEIPT),
        Endpoint("POST", "/sessions", sessions.open, open_session),
        Endpoint("POST", "/sessions/{sessionId}/topup", sessions.top_up, top_up),
        Endpoint("GET", "/sessions/{sessionId}/ledger", sessions.ledger, of_sessions.SHOW_LEDGER),
        Endpoint("POST", "/sessions/{sessionId}/close", sessions.close, of_sessions.CLOSE),
        Endpoint("POST", "/sessions/{sessionId}/withdraw", sessions.withdraw, of_sessions.WITHDRAW),
        *_for_wallets(state),
        Endpoint(
            "PUT", "/sessions/{sessionId}/refund-destination", sessions.name_destination, of_sessions.NAME_DESTINATION
        ),
        Endpoint(
            "GET",
            "/sessions/{sessionId}/requests/{requestId}/receipt",
            receipts.of_request,
            of_receipts.REQUEST_RECEIPT,
        ),
        Endpoint("POST", "/v1/messages", llm.messages, of_llm.MESSAGES),
        Endpoint("POST", "/v1/messages/count_tokens", llm.count_tokens, of_llm.COUNT_TOKENS),
        Endpoint("POST", "/v1/chat/completions", chat.answer, of_openai.CHAT),
        Endpoint("POST", "/v1/responses", responses.create, of_responses.RESPONSES),
        Endpoint("POST", "/v1/responses/input_tokens", responses.count_tokens, of_responses.INPUT_TOKENS),
        Endpoint("GET", "/v1/models", models.show_all, of_openai.MODELS),
        Endpoint("GET", "/v1/models/{modelId}", models.show, of_openai.MODEL),
        Endpoint("POST", "/ask", requests.ask, of_llm.ASK),
        Endpoint("GET", "/demo", Demo(state, clients).ask, around.DEMO),
        Endpoint("GET", "/pricing", Pricing(state).show, around.PRICING),
        Endpoint("GET", "/.well-known/satmeter.json", receipts.well_known, of_receipts.WELL_KNOWN),
        Endpoint("GET", "/healthz", health.alive, around.HEALTH),
        Endpoint("GET", "/readyz", health.ready, around.READY),
        Endpoint("GET", "/metrics", metrics.show, around.METRICS),
        *_for_people(pages, PayRoutes(state, pages.assets, stub_node=stub_node is not None)),
    ]
    if stub_node is not None:
        table += _for_development(StubRoutes(stub_node, settings.body_limit_bytes))
    receipts.describe(table)
    pages.describe(table)
    return table


def _for_wallets(state: AppState) -> Sequence[Endpoint]:
    lnurl = LnurlRoutes(state)
    return [
        Endpoint("GET", "/lnurl/withdraw/{token}", lnurl.offer, of_lnurl.OFFER),
        Endpoint("GET", "/lnurl/withdraw/{token}/callback", lnurl.take, of_lnurl.TAKE),
        Endpoint("GET", "/lnurl/withdraw/{token}/qr.svg", lnurl.qr, of_lnurl.QR),
    ]


def _for_people(pages: Pages, pay: PayRoutes) -> Sequence[Endpoint]:
    return [
        Endpoint("GET", "/openapi.json", pages.document, around.DOCUMENT),
        Endpoint("GET", "/docs", pages.docs, around.DOCS),
        Endpoint("GET", "/", pages.home, around.HOME),
        Endpoint("GET", "/assets/{digest}/{name}", pages.asset, around.ASSET),
        Endpoint("GET", "/pay/{payId}", pay.page, of_pages.PAY_PAGE),
        Endpoint("GET", "/pay/{payId}/invoice", pay.state, of_pages.PAY_INVOICE),
        Endpoint("GET", "/pay/{payId}/qr.svg", pay.qr, of_pages.INVOICE_QR),
    ]


def _for_development(dev: StubRoutes) -> Sequence[Endpoint]:
    return [
        Endpoint("POST", "/dev/stub/pay/{paymentHash}", dev.pay, around.PAY_STUB),
        Endpoint("POST", "/dev/stub/invoice", dev.invoice, around.MAKE_STUB_INVOICE),
    ]
