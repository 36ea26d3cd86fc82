"""Schemas of LNURL-withdraw (LUD-03), whose errors have the status 200 and a `status` in the body."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..schema import Absent, Count, Wire


class WithdrawOffer(Wire):
    """The sums that a wallet can fetch, both 0 if there is nothing just now; or why the link takes nothing."""

    tag: Literal["withdrawRequest"] | Absent = None
    callback: Annotated[str | Absent, Field(description="Where the wallet sends its invoice.")] = None
    k1: Annotated[str | Absent, Field(description="A word that it sends with the invoice.")] = None
    default_description: str | Absent = None
    min_withdrawable: Annotated[Count | Absent, Field(description="In msat.")] = None
    max_withdrawable: Annotated[Count | Absent, Field(description="In msat.")] = None
    status: Literal["ERROR"] | Absent = None
    reason: Annotated[str | Absent, Field(description="With an error.")] = None


class WithdrawOutcome(Wire):
    """`OK` once the payout is journaled, after which the wallet waits for its money; or why there is none."""

    status: Literal["OK", "ERROR"]
    reason: Annotated[str | Absent, Field(description="With an error.")] = None
