"""Ids of jobs and sessions: opaque and unguessable, because a client that knows a job's id sees the job."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

from ...actors.domain.credentials import macaroon

# 24 bytes are exactly 32 url-safe characters.
_ID_BYTES: Final = 24
_JOB_ID: Final = re.compile(r"job_[A-Za-z0-9_-]{32}")
_SESSION_ID: Final = re.compile(r"ses_[A-Za-z0-9_-]{32}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


def new_demo_id() -> str:
    """Return the id of an actor for one free request."""
    return f"demo_{secrets.token_urlsafe(_ID_BYTES)}"


def new_job_id() -> str:
    """Return the id of a job without an idempotency key."""
    return f"job_{secrets.token_urlsafe(_ID_BYTES)}"


def job_id_of(id_key: bytes, client: str, idempotency_key: str) -> str:
    """Return the job id for a client's Idempotency-Key, always the same: after a crash, and on every front.

    The client is part of it because a key is only unique to its client; the secret, because a job's id must not
    be guessable by others. `client` has no line breaks, and neither has the key, so no two triples collide.
    """
    return f"job_{base64.urlsafe_b64encode(_derived(id_key, client, 'POST /jobs', idempotency_key)).decode()}"


def new_session_id() -> str:
    """Return the id of a session without an idempotency key."""
    return macaroon.session_id(secrets.token_bytes(macaroon.SESSION_BYTES))


def session_id_of(id_key: bytes, client: str, idempotency_key: str, path: str = "/sessions") -> str:
    """Return the session id for a client's Idempotency-Key (see `job_id_of`), on a path that opens sessions."""
    return macaroon.session_id(_derived(id_key, client, f"POST {path}", idempotency_key))


def _derived(id_key: bytes, client: str, route: str, idempotency_key: str) -> bytes:
    message = "\n".join((client, route, idempotency_key))
    return hmac.digest(id_key, message.encode(), hashlib.sha256)[:_ID_BYTES]


def is_job_id(text: str) -> bool:
    """Return True for the form of a job's id; other texts are refused without asking an actor."""
    return _JOB_ID.fullmatch(text) is not None


def is_session_id(text: str) -> bool:
    """Return True for the form of a session's id."""
    return _SESSION_ID.fullmatch(text) is not None


def is_idempotency_key(text: str) -> bool:
    """Return True for 1 to 255 visible ASCII characters."""
    return _IDEMPOTENCY_KEY.fullmatch(text) is not None
