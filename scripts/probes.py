"""Asks the parts that a configuration names whether they are there and fit to be used. Asking costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import httpx
from pydantic import SecretStr

from ..config.rules import Problem
from ..config.settings import Settings
from .store_probes import store_problems

_TIMEOUT_S: Final = 10.0
_ANTHROPIC_URL: Final = "https://api.anthropic.com"
_REFUSED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


async def probe(settings: Settings) -> list[Problem]:
    """What is wrong with the parts that are named. Settings that `problems` finds fault with can't be probed."""
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=True) as http:
        found = await asyncio.gather(
            store_problems(settings),
            _ray_problems(settings),
            _lnbits_problems(settings, http),
            _model_problems(settings, http),
        )
    return [problem for part in found for problem in part]


async def _ray_problems(settings: Settings) -> list[Problem]:
    host, _, port = (settings.ray_address or "").rpartition(":")
    if not host or not port.isdigit():
        return []  # None, or a form like `auto` that only Ray itself can look up.
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.removeprefix("ray://"), int(port))
    except OSError:
        return [Problem("RAY_ADDRESS", "No Ray cluster answers there: start it, or mend the address.")]
    writer.close()
    return []


async def _lnbits_problems(settings: Settings, http: httpx.AsyncClient) -> list[Problem]:
    found = []
    for variable, key in (
        ("LNBITS_INVOICE_KEY", settings.lnbits_invoice_key),
        ("LNBITS_ADMIN_KEY", settings.lnbits_admin_key),
    ):
        if settings.lnbits_url is None or key is None:
            continue
        url = f"{settings.lnbits_url.rstrip('/')}/api/v1/wallet"
        status = await _status(http, url, {"X-Api-Key": key.get_secret_value()})
        if status is None:
            return [Problem("LNBITS_URL", "LNbits does not answer: start it, or mend the address.")]
        if status in _REFUSED:
            found.append(Problem(variable, "LNbits does not accept this key: copy it anew from the wallet's page."))
        elif status != httpx.codes.OK:
            found.append(
                Problem("LNBITS_URL", f"LNbits answers with status {status}: look whether the address is right.")
            )
    return found


async def _model_problems(settings: Settings, http: httpx.AsyncClient) -> list[Problem]:
    if settings.anthropic_api_key is None:
        return []
    found = []
    for variable, model in (("EVAL_MODEL", settings.eval_model), ("WORK_MODEL", settings.work_model)):
        status = await _model_status(settings, http, model, settings.anthropic_api_key)
        if status is None:
            return [
                Problem("ANTHROPIC_BASE_URL", "The model provider does not answer: mend the network or the address.")
            ]
        if status in _REFUSED:
            return [Problem("ANTHROPIC_API_KEY", "The model provider does not accept this key.")]
        if status == httpx.codes.NOT_FOUND:
            found.append(Problem(variable, f"The model provider does not know {model!r}: choose one that it lists."))
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
