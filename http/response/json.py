"""JSON responses from pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

# Decimals as JSON numbers with all their digits.
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def encode(model: BaseModel) -> bytes:
    """Return the model's JSON, without the fields that don't apply."""
    return _ENCODER.encode(model.model_dump(by_alias=True, exclude_none=True))


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer that no cache may store."""
    return Response(encode(model), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def head_only(media_type: str) -> Response:
    """Return the answer to a HEAD whose GET would cost a model call or never end."""
    response = Response(headers={"Cache-Control": "no-store"}, media_type=media_type)
    # Starlette sets 0, but the length of the GET's body is unknown.
    del response.headers["content-length"]
    return response
