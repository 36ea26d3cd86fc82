"""Probes of the parts that a configuration names: each must answer and be fit for use. They cost nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

import httpx
from pydantic import SecretStr
from redis.exceptions import RedisError

from ...actors.adapters.lightning.backend import Probed
from ...actors.adapters.lightning_backends import backend_of
from ...config.named_settings import is_set
from ...config.problem import Problem
from ...config.settings import Settings
from .ray_store import RAY_STORE, ray_store_problems
from .store_age import older_store_problems
from .store_checks import store_problems
from .upstream_probes import MODELS_FILE, upstream_problems
from .wallet_probes import probed_wallet

_TIMEOUT_S: Final = 5.0
# A part may be asked several times, once for each key or model.
_PART_WITHIN_S: Final = 12.0
_ANTHROPIC_URL: Final = "https://api.anthropic.com"
# The provider is overloaded, which says nothing against the configuration.
_BUSY: Final = (429, 503, 529)
_REFUSED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


async def probe(
    settings: Settings, faulty: Collection[str] = (), tell: Callable[[str], None] = lambda _line: None
) -> Probed:
    """Return the problems of the configured parts, all asked at the same time, and what was shown of the node.

    faulty: variables with unusable values: their parts are not asked, and get no key.
    tell: gets a line when the probes begin, and one for each part that has answered.
    """
    backend, wallet = backend_of(settings), Probed()
    # Nothing is asked without the keys, and what was not asked is not well.
    has_keys = not backend.stub and all(is_set(settings, variable) for variable in backend.needed)

    async def wallet_problems() -> Sequence[Problem]:
        nonlocal wallet
        wallet = await probed_wallet(settings, http)
        return wallet.problems

    questioned: Sequence[Problem] = ()

    async def ray_store() -> Sequence[Problem]:
        nonlocal questioned
        found = await _ray_store_problems(settings)
        questioned = () if settings.production else found
        return found if settings.production else ()

    # A redirect could send a key to another server.
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as http:
        parts: dict[str, tuple[str, bool, Callable[[], Awaitable[Sequence[Problem]]]]] = {
            "the store": ("REDIS_URL", settings.redis_url is not None, partial(_store_problems, settings)),
            "the store of Ray's head": (RAY_STORE, bool(os.environ.get(RAY_STORE)), ray_store),
            "Ray": ("RAY_ADDRESS", _ray_place(settings) is not None, partial(_ray_problems, settings)),
            backend.title: (backend.address, has_keys, wallet_problems),
            "the model provider": (
                "ANTHROPIC_BASE_URL",
                settings.anthropic_api_key is not None and settings.models_file is None,
                partial(_model_problems, settings, http),
            ),
            "the upstreams": (
                MODELS_FILE,
                settings.models_file is not None,
                partial(upstream_problems, settings, http),
            ),
        }
        asked = [
            _asked(name, variable, ask, tell)
            for name, (variable, named, ask) in parts.items()
            if named and variable not in faulty
        ]
        if asked:
            tell(f"Asking the parts, for at most {_PART_WITHIN_S:.0f} s ...")
        found = await asyncio.gather(*asked)
    warnings = [*questioned, *wallet.warnings]
    return Probed([problem for part in found for problem in part], warnings, wallet.proofs)


async def _store_problems(settings: Settings) -> list[Problem]:
    return await store_problems(settings) or await older_store_problems(settings)


async def _ray_store_problems(settings: Settings) -> list[Problem]:
    try:
        return await ray_store_problems(os.environ, settings)
    except (RedisError, OSError) as error:
        text = f"The store of Ray's head does not answer ({type(error).__name__}): start it, or mend the address."
        return [Problem(RAY_STORE, text)]


async def _asked(
    name: str, variable: str, ask: Callable[[], Awaitable[Sequence[Problem]]], tell: Callable[[str], None]
) -> Sequence[Problem]:
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(_PART_WITHIN_S):
            found = await ask()
    except TimeoutError:
        found = [Problem(variable, f"No answer within {_PART_WITHIN_S:.0f} s: start it, or mend the address.")]
    tell(f"  {name}: {'see below' if found else 'well'} ({time.monotonic() - began_s:.1f} s)")
    return found


def _ray_place(settings: Settings) -> tuple[str, int] | None:
    """Return Ray's host and port; None without an address, and for forms like `auto` that only Ray can resolve."""
    host, _, port = (settings.ray_address or "").removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


async def _ray_problems(settings: Settings) -> list[Problem]:
    place = _ray_place(settings)
    if place is None:
        return []
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(*place)
    except OSError:
        return [Problem("RAY_ADDRESS", "No Ray cluster answers there: start it, or mend the address.")]
    writer.close()
    return []


async def _model_problems(settings: Settings, http: httpx.AsyncClient) -> list[Problem]:
    if settings.anthropic_api_key is None:
        return []
    found = []
    models = (("EVAL_MODEL", settings.eval_model), ("WORK_MODEL", settings.work_model))
    asked = [_model_status(settings, http, model, settings.anthropic_api_key) for _, model in models]
    for (variable, model), status in zip(models, await asyncio.gather(*asked), strict=True):
        if status is None:
            return [
                Problem("ANTHROPIC_BASE_URL", "The model provider does not answer: mend the network or the address.")
            ]
        if status in _REFUSED:
            return [Problem("ANTHROPIC_API_KEY", "The model provider does not accept this key.")]
        if status == httpx.codes.NOT_FOUND:
            found.append(Problem(variable, f"The model provider does not know {model!r}: choose one that it lists."))
        elif status != httpx.codes.OK and status not in _BUSY:
            text = f"The model provider answers with status {status}: look whether the address is right."
            return [Problem("ANTHROPIC_BASE_URL", text)]
    return found


async def _model_status(settings: Settings, http: httpx.AsyncClient, model: str, key: SecretStr) -> int | None:
    # docs.anthropic.com: GET /v1/models/{model_id}, which is free of charge.
    url = f"{(settings.anthropic_base_url or _ANTHROPIC_URL).rstrip('/')}/v1/models/{model}"
    return await _status(http, url, {"x-api-key": key.get_secret_value(), "anthropic-version": "2023-06-01"})


async def _status(http: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> int | None:
    try:
        return (await http.get(url, headers=headers)).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
