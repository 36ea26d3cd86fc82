"""Ids of answers: an upstream's own, without the prefix of its API, so that they can have that of another."""

from __future__ import annotations

import re
from typing import Final

# Upstreams of one API may give ids of another: llama.cpp says `chatcmpl-` at `/v1/messages`, gateways pass any on.
_PREFIXES: Final = re.compile(r"(?:chatcmpl-|msg_|resp_)+")


def bare_id(given: str) -> str:
    """Return the id of an answer without the prefixes of the APIs that are spoken here."""
    prefix = _PREFIXES.match(given)
    return given if prefix is None else given[prefix.end() :]
