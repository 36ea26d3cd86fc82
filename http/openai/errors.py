"""Errors in the middle of a stream of chat completions."""

from __future__ import annotations

from ...actors.domain.errors import RefusedError
from ..request_facts import RequestFacts
from ..response import errors
from ..response.error_formats import openai
from .stream import data


def error_chunk(error: RefusedError, facts: RequestFacts) -> bytes:
    """Return the event of an error, which SDKs raise."""
    body = errors.body_of(error.refusal, facts)
    return data(openai(errors.STATUS[error.refusal.code], body))
