"""Checks of addresses: keys, clients' texts and money go by TLS, or stay on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ...actors.adapters.lightning_backends import BACKENDS
from ...actors.catalogue.loading import model_catalogue, upstream_keys
from ...config.named_settings import value_of
from ...config.problem import Problem
from ...config.settings import Settings
from ...config.store_url import StoreKind, parse_store_url

_HTTP: Final = frozenset({"http", "https"})
_TLS: Final = frozenset({"https", "wss"})

_ALLOW: Final = "name its host in SATMETER_PLAIN_HTTP_ALLOW when the whole network between is yours."
PLAIN_HTTP: Final = f"Your key would travel there in the clear: use https://, or {_ALLOW}"
_PLAIN_STORE: Final = f"Its password and all books would travel in the clear: use rediss:// (TLS), or {_ALLOW}"
_PLAIN_PRICE: Final = f"Anybody on the way could set the price that you sell at: use https://, or {_ALLOW}"
_PLAIN_TRACES: Final = f"Anybody on the way could read who calls what, and when: use https://, or {_ALLOW}"
_PLAIN_RELAY: Final = (
    "Anybody on the way to {host} could see when you are paid, and keep orders from your wallet: take a relay by "
    f"wss://, or {_ALLOW}"
)
_TRACES: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_UNVERIFIED: Final = (
    "Its certificate is not checked, so anybody can take its place: leave ssl_cert_reqs and the like out."
)


def plain_http_allowed(environment: Mapping[str, str]) -> Sequence[str]:
    """Read SATMETER_PLAIN_HTTP_ALLOW, for programs that need no other setting."""
    return [name.strip() for name in environment.get("SATMETER_PLAIN_HTTP_ALLOW", "").split(",") if name.strip()]


def may_carry_keys(url: str, allowed: Sequence[str] = ()) -> bool:
    """Return True if a key stays secret on its way: by TLS, on this machine, or where the operator allows."""
    split = urlsplit(url)
    return split.scheme in _TLS or _may_be_plain(split.hostname or "", allowed)


def transport_problems(settings: Settings) -> list[Problem]:
    """Return the problems of all addresses but those of the upstreams: unreadable ones, and plain connections."""
    return list(_addresses(settings))


def _addresses(settings: Settings) -> Iterator[Problem]:
    if settings.redis_url is not None:
        try:
            parse_store_url(settings.redis_url)
        except ValueError as error:
            yield Problem("REDIS_URL", str(error))
        else:
            if settings.production and (message := plain_store(settings.redis_url, settings.plain_http_allow)):
                yield Problem("REDIS_URL", message)
    for variable, url in (
        *_nodes(settings),
        ("ANTHROPIC_BASE_URL", settings.anthropic_base_url),
        ("BTC_PRICE_URL", settings.btc_price_url),
        (_TRACES, settings.otlp_endpoint),
    ):
        if url is None:
            continue
        message = {"BTC_PRICE_URL": _PLAIN_PRICE, _TRACES: _PLAIN_TRACES}.get(variable)
        if not _is_url(url):
            yield Problem(variable, "Not an address: it must begin with http:// or https://.")
        # No key goes to where the price and the traces are, but production sells at the one, and is seen by the other.
        elif (settings.production or message is None) and not may_carry_keys(url, settings.plain_http_allow):
            yield Problem(variable, message or PLAIN_HTTP)
    yield from _plain_relays(settings)
    for variable in _HEADERS:
        if settings.production and settings.otlp_endpoint and os.environ.get(variable):
            yield Problem(variable, "All processes would inherit the key in it: send to a collector that adds the key.")


def _nodes(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the addresses of Lightning nodes; one that is a secret itself is checked by its backend."""
    for backend in BACKENDS.values():
        if backend.address and isinstance(url := value_of(settings, backend.address), str):
            yield backend.address, url


def _plain_relays(settings: Settings) -> Iterator[Problem]:
    """Yield the plain connections to addresses within a secret, by their hosts. What goes there is encrypted itself."""
    for backend in BACKENDS.values() if settings.production else ():
        for url in backend.hidden_addresses(settings):
            if not may_carry_keys(url, settings.plain_http_allow):
                yield Problem(backend.address, _PLAIN_RELAY.format(host=urlsplit(url).hostname))


def upstream_transport_problems(settings: Settings) -> Iterator[Problem]:
    """Yield the plain connections of a models file that can be read."""
    keys = upstream_keys(settings)
    for upstream in model_catalogue(settings).upstreams:
        # Without a key it is the clients' texts that would travel in the clear.
        secret = settings.production or keys[upstream.name] is not None
        if secret and not may_carry_keys(upstream.base_url, settings.plain_http_allow):
            yield Problem("SATMETER_MODELS_FILE", f"{settings.models_file}, {upstream.name}, base_url: {PLAIN_HTTP}")


def plain_store(url: str, allowed: Sequence[str] = (), named: Sequence[str] = ()) -> str | None:
    """Return why the store can't be trusted with money over this address, or None. Raises `ValueError`.

    named: hosts that sentinels or nodes name as servers, which are connected to in the same manner.
    """
    store = parse_store_url(url)
    if store.kind is StoreKind.SINGLE:
        split = urlsplit(url)
        scheme, hosts, query = split.scheme, [split.hostname or ""], split.query
    else:
        scheme, query = url.partition("+")[0], urlsplit(store.server(store.addresses[0])).query
        hosts = [address.host for address in store.addresses]
    if scheme == "unix" or all(_may_be_plain(host, allowed) for host in (*hosts, *named)):
        return None
    if scheme != "rediss":
        return _PLAIN_STORE
    options = {name: value.lower() for name, value in parse_qsl(query)}
    unverified = options.get("ssl_cert_reqs", "required") not in ("required", "cert_required")
    unnamed = options.get("ssl_check_hostname", "true") in ("0", "f", "false", "n", "no")
    return _UNVERIFIED if unverified or unnamed else None


def _is_url(url: str) -> bool:
    try:
        split = urlsplit(url)
    except ValueError:
        return False
    return split.scheme in _HTTP and bool(split.hostname)


def _may_be_plain(host: str, allowed: Sequence[str]) -> bool:
    host = host.lower()
    if host == "localhost" or host in {entry.lower().strip("[]") for entry in allowed}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
