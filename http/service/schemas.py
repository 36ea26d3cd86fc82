"""The wire of what stands around jobs and sessions: the demo, health, and the stub node's side door."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..schema import DEMO_CHARS_MAX, Absent, Timestamp, Wire


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


class Payouts(Wire):
    """The findings of the comparison of payouts with the journals.

    A payment of the wallet for a session or job that no journal records as paid is lost to the operator.
    """

    unknown_count: Annotated[int, Field(ge=0, description="Payments of the last 7 days that no journal shows as paid.")]
    unknown_msat: Annotated[int, Field(ge=0, description="What they add up to, with what routing cost.")]
    compared_count: Annotated[int, Field(ge=0, description="Payments that were compared.")]
    compared_since: Annotated[Timestamp | Absent, Field(description="When the oldest of them was made.")] = None
    refused_count: Annotated[int, Field(ge=0, description="Payouts ever that the node would not even try.")]
    trouble: Annotated[
        str | Absent, Field(description="Why refunds can't be paid now, or could not within the last hour.")
    ] = None


class Ready(Wire):
    """All parts can be reached. `payouts` is what the treasury found last; `warnings` are for the operator."""

    status: Literal["ready"]
    checks: dict[str, Literal["ok"]]
    payouts: Payouts | Absent = None
    warnings: Annotated[list[str] | Absent, Field(description="What only the operator can mend.")] = None


class Paid(Wire):
    """A stub invoice counts as paid."""

    paid: Literal[True]
