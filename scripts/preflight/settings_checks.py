"""Checks of a configuration beyond the types of its settings, and the parts that it makes real."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ...actors.catalogue.loading import model_catalogue, upstream_keys
from ...actors.catalogue.tables import CatalogueError
from ...actors.operator_terms import own_models
from ...config.problem import Problem
from ...config.settings import Settings
from ...config.store_url import parse_store_url
from ...config.webhook_policy import WebhookTargets

_HTTP: Final = frozenset({"http", "https"})
PLAIN_HTTP: Final = (
    "Your key would travel there in the clear: use https://, or name its host in SATMETER_PLAIN_HTTP_ALLOW when the "
    "whole network between is yours."
)


class Part(msgspec.Struct, frozen=True):
    """A part of the server, real or a stub. `detail` describes it, `variables` are those that set it."""

    name: str
    real: bool
    detail: str
    variables: tuple[str, ...] = ()


def parts(settings: Settings) -> list[Part]:
    """Return the parts of the server with these settings."""
    store = "yours, at REDIS_URL" if settings.redis_url else f"embedded Valkey, data in {settings.data_dir}"
    actors = f"Ray at {settings.ray_address}" if settings.ray_address else "Ray on 127.0.0.1"
    lightning = f"LNbits at {settings.lnbits_url}" if settings.lnbits_url else "a stub node; set LNBITS_URL"
    provider = f"upstreams of {settings.models_file}" if settings.models_file else "Anthropic"
    real_model = settings.anthropic_api_key is not None or settings.models_file is not None
    model = (
        f"{provider}, {settings.eval_model} evaluates and {settings.work_model} works"
        if real_model
        else "a stub model; set ANTHROPIC_API_KEY or SATMETER_MODELS_FILE"
    )
    variables = ("SATMETER_MODELS_FILE",) if settings.models_file else ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
    return [
        Part("Store", True, store, ("REDIS_URL",)),
        Part("Actors", True, actors, ("RAY_ADDRESS",)),
        Part("Lightning", settings.lnbits_url is not None, lightning, ("LNBITS_URL", "LNBITS_INVOICE_KEY")),
        Part("Model", real_model, model, variables),
    ]


def problems(settings: Settings) -> list[Problem]:
    """Return the problems that forbid a start with these settings, without asking other services."""
    found = [
        *_lightning(settings),
        *_model(settings),
        *_addresses(settings),
        *_webhooks(settings),
        *_sessions(settings),
    ]
    return [*found, *_production(settings)] if settings.production else found


def _lightning(settings: Settings) -> Iterator[Problem]:
    if settings.lnbits_url and not settings.lnbits_invoice_key:
        yield Problem("LNBITS_INVOICE_KEY", "LNBITS_URL is set: set the invoice key of your wallet there, too.")
    if not settings.lnbits_url and (settings.lnbits_invoice_key or settings.lnbits_admin_key):
        yield Problem("LNBITS_URL", "An LNbits key is set, but no server to use it with: set its address.")


def _model(settings: Settings) -> Iterator[Problem]:
    if settings.anthropic_base_url and not settings.anthropic_api_key:
        yield Problem("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL is set: set the key that it takes, too.")
    if settings.anthropic_base_url and settings.models_file:
        yield Problem("ANTHROPIC_BASE_URL", "SATMETER_MODELS_FILE has the addresses of all upstreams: remove it.")
    faults: list[tuple[str, str]] = []
    for read in (own_models, upstream_keys):
        try:
            read(settings)
        except CatalogueError as error:
            faults += error.faults
    yield from (Problem(variable, text) for variable, text in dict.fromkeys(faults))
    if settings.models_file and not faults:
        yield from _upstreams(settings)


def _upstreams(settings: Settings) -> Iterator[Problem]:
    keys = upstream_keys(settings)
    for upstream in model_catalogue(settings).upstreams:
        # Without a key it is the clients' texts that would travel in the clear.
        secret = settings.production or keys[upstream.name] is not None
        if secret and not may_carry_keys(upstream.base_url, settings.plain_http_allow):
            yield Problem("SATMETER_MODELS_FILE", f"{settings.models_file}, {upstream.name}, base_url: {PLAIN_HTTP}")


def _addresses(settings: Settings) -> Iterator[Problem]:
    if settings.redis_url is not None:
        try:
            parse_store_url(settings.redis_url)
        except ValueError as error:
            yield Problem("REDIS_URL", str(error))
    for variable, url in (
        ("LNBITS_URL", settings.lnbits_url),
        ("ANTHROPIC_BASE_URL", settings.anthropic_base_url),
        ("BTC_PRICE_URL", settings.btc_price_url),
    ):
        if url is not None and not _is_url(url):
            yield Problem(variable, "Not an address: it must begin with http:// or https://.")
        elif url is not None and variable != "BTC_PRICE_URL" and not may_carry_keys(url, settings.plain_http_allow):
            yield Problem(variable, PLAIN_HTTP)
    for proxy in settings.trusted_proxies:
        try:
            ip_network(proxy, strict=False)
        except ValueError:
            yield Problem(
                "SATMETER_TRUSTED_PROXIES", f"{proxy!r} is neither an IP address nor a network like 10.0.0.0/8."
            )


def _webhooks(settings: Settings) -> Iterator[Problem]:
    try:
        WebhookTargets(settings.webhook_allow)
    except ValueError as error:
        yield Problem("SATMETER_WEBHOOK_ALLOW", f"{error}.")


def _sessions(settings: Settings) -> Iterator[Problem]:
    if settings.session_min_sats > settings.session_max_sats:
        yield Problem("SATMETER_SESSION_MAX_SATS", "The largest deposit is smaller than SATMETER_SESSION_MIN_SATS.")


def plain_http_allowed(environment: Mapping[str, str]) -> Sequence[str]:
    """Read SATMETER_PLAIN_HTTP_ALLOW, for programs that need no other setting."""
    return [name.strip() for name in environment.get("SATMETER_PLAIN_HTTP_ALLOW", "").split(",") if name.strip()]


def may_carry_keys(url: str, allowed: Sequence[str] = ()) -> bool:
    """Return True if a key stays secret on its way: by TLS, on this machine, or where the operator allows."""
    split = urlsplit(url)
    host = (split.hostname or "").lower()
    if split.scheme == "https" or host == "localhost" or host in {entry.lower().strip("[]") for entry in allowed}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_url(url: str) -> bool:
    try:
        split = urlsplit(url)
    except ValueError:
        return False
    return split.scheme in _HTTP and bool(split.hostname)


def _production(settings: Settings) -> Iterator[Problem]:
    if settings.stub_lightning:
        yield Problem("LNBITS_URL", "Production takes no stub node: set LNBITS_URL and LNBITS_INVOICE_KEY.")
    elif not settings.lnbits_admin_key:
        yield Problem("LNBITS_ADMIN_KEY", "Production must be able to pay refunds: set the wallet's admin key.")
    if not settings.anthropic_api_key and not settings.models_file:
        yield Problem("ANTHROPIC_API_KEY", "Production takes no stub model: set your key, or SATMETER_MODELS_FILE.")
    if not settings.macaroon_root_key:
        yield Problem(
            "MACAROON_ROOT_KEY",
            "Production needs a key that outlives this machine: set 32 bytes in hex (`openssl rand -hex 32`).",
        )
    if not settings.rate_limits:
        yield Problem("SATMETER_RATE_LIMITS", "Only load tests may switch the limits off: remove it in production.")
