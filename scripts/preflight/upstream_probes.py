"""Probes of the upstreams of a models file: each is asked for its list of models, which costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import httpx
import msgspec

from ...actors.catalogue.loading import model_catalogue, upstream_keys
from ...actors.domain.llm.catalogue import Api, Catalogue, Upstream
from ...config.problem import Problem
from ...config.settings import Settings

MODELS_FILE: Final = "SATMETER_MODELS_FILE"
# The upstream is overloaded, which says nothing against the configuration.
_BUSY: Final = (429, 503, 529)
_REFUSED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
# A server without a list answers so, and works all the same.
_NO_LIST: Final = (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED)
_LISTED_MAX: Final = 8


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def upstream_problems(settings: Settings, http: httpx.AsyncClient) -> list[Problem]:
    """Return the problems of all upstreams, which are asked at the same time."""
    catalogue, keys = model_catalogue(settings), upstream_keys(settings)
    asked = [_problems(catalogue, upstream, keys[upstream.name], http) for upstream in catalogue.upstreams]
    return [Problem(MODELS_FILE, text) for found in await asyncio.gather(*asked) for text in found]


async def _problems(catalogue: Catalogue, upstream: Upstream, key: str | None, http: httpx.AsyncClient) -> list[str]:
    name, base_url = f"Upstream {upstream.name}", upstream.base_url.rstrip("/")
    url = f"{base_url}/v1/models?limit=1000" if upstream.api is Api.ANTHROPIC else f"{base_url}/models"
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    if upstream.api is Api.ANTHROPIC:
        headers["anthropic-version"] = "2023-06-01"
    try:
        answer = await http.get(url, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL):
        return [f"{name} does not answer at {upstream.base_url}: start it, or mend its base_url."]
    if answer.status_code in _REFUSED:
        remedy = "set key_env or key_file" if key is None else "mend the key"
        return [f"{name} does not accept {'a call without a key' if key is None else 'its key'}: {remedy}."]
    if answer.status_code in _BUSY or answer.status_code in _NO_LIST:
        return []
    if answer.status_code != httpx.codes.OK:
        return [f"{name} answers with status {answer.status_code} at {url}: look whether its base_url is right."]
    return list(_missing(catalogue, upstream, answer.content))


def _missing(catalogue: Catalogue, upstream: Upstream, body: bytes) -> Iterator[str]:
    """Yield a sentence for each model that the upstream does not list."""
    try:
        listed = [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (ValueError, RecursionError):
        return
    shown = ", ".join(listed[:_LISTED_MAX]) + (", ..." if len(listed) > _LISTED_MAX else "")
    for entry in catalogue.models():
        if upstream.name in entry.upstreams and listed and entry.upstream_model not in listed:
            yield (
                f"Upstream {upstream.name} does not list {entry.upstream_model}, which model {entry.name} needs: "
                f"set its `model` to one of {shown}."
            )
