"""The wire of what stands around jobs and sessions: the demo, health, and the stub node's side door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .schemas import DEMO_CHARS_MAX, Wire


class DemoQuery(Wire):
    """A free request."""

    request: Annotated[
        str, Field(min_length=1, max_length=DEMO_CHARS_MAX, pattern=r"\S", description="A small question.")
    ]


class DemoResult(Wire):
    """The answer to a free request."""

    result: str


class Health(Wire):
    """The process answers."""

    status: Literal["ok"]


class Ready(Wire):
    """All parts can be reached."""

    status: Literal["ready"]
    checks: dict[str, Literal["ok"]]


class Paid(Wire):
    """A stub invoice counts as paid."""

    paid: Literal[True]
