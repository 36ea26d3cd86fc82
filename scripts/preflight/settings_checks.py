"""Checks of a configuration beyond the types of its settings, and the parts that it makes real."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import ip_network

import msgspec

from ...actors.adapters.lightning_backends import CHOICE, backend_of, choice_problems
from ...actors.catalogue.loading import upstream_keys
from ...actors.catalogue.tables import CatalogueError
from ...actors.operator_terms import own_models
from ...config.problem import Problem
from ...config.settings import Settings
from ...config.webhook_policy import WebhookTargets
from .production_checks import production_problems
from .transport_checks import transport_problems, upstream_transport_problems


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
    backend = backend_of(settings)
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
        Part("Lightning", not backend.stub, backend.place(settings), (CHOICE, *backend.needed)),
        Part("Model", real_model, model, variables),
    ]


def problems(settings: Settings) -> list[Problem]:
    """Return the problems that forbid a start with these settings, without asking other services."""
    found = [
        *choice_problems(settings),
        *_model(settings),
        *transport_problems(settings),
        *_proxies(settings),
        *_webhooks(settings),
        *_root_keys(settings),
        *_sessions(settings),
    ]
    return [*found, *production_problems(settings)] if settings.production else found


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
    if settings.models_file:
        # Also beside other faults: what is not told of here is asked, with its key.
        with contextlib.suppress(CatalogueError):
            yield from upstream_transport_problems(settings)


def _proxies(settings: Settings) -> Iterator[Problem]:
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


def _root_keys(settings: Settings) -> Iterator[Problem]:
    key, previous = settings.macaroon_root_key, settings.macaroon_root_key_previous
    if previous is not None and key is None:
        yield Problem("MACAROON_ROOT_KEY", "MACAROON_ROOT_KEY_PREVIOUS is set: set the key that is in use, too.")
    if previous is not None and previous == key:
        yield Problem("MACAROON_ROOT_KEY_PREVIOUS", "It is the same as MACAROON_ROOT_KEY: remove it.")


def _sessions(settings: Settings) -> Iterator[Problem]:
    if settings.session_min_sats > settings.session_max_sats:
        yield Problem("SATMETER_SESSION_MAX_SATS", "The largest deposit is smaller than SATMETER_SESSION_MIN_SATS.")
