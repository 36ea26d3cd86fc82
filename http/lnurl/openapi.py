"""OpenAPI operations of LNURL-withdraw."""

from __future__ import annotations

from typing import Final

from ...actors.domain.errors import Code
from ..openapi.operation import AROUND, Answer, Operation, Parameter, json_answer
from ..response.error_formats import lnurl
from . import schemas

_TOKEN: Final = Parameter(
    "token",
    "path",
    "A bearer token, which takes what one session or job owes.",
    # Without a pattern: any other text has an answer with the status 200, too.
    {"type": "string"},
    required=True,
)
SVG: Final = "image/svg+xml"
OFFER: Final = Operation(
    id="getWithdrawal",
    tag=AROUND,
    summary="See what a wallet can withdraw",
    description="For wallets, which find it behind the LNURL of a link: LNURL-withdraw, LUD-03.",
    parameters=(_TOKEN,),
    answers=json_answer("The sums, or an error with `status`.", schemas.WithdrawOffer),
    error_format=lnurl,
)
TAKE: Final = Operation(
    id="takeWithdrawal",
    tag=AROUND,
    summary="Have a wallet's invoice paid",
    description="For wallets. The same invoice again has the same answer, and is paid once. A second one is refused "
    "while the payout to the first may still succeed.",
    parameters=(
        _TOKEN,
        Parameter("k1", "query", "The `k1` of the offer.", {"type": "string"}),
        Parameter("pr", "query", "A BOLT11 invoice over whole sats within the offer.", {"type": "string"}),
    ),
    answers=json_answer("Whether the payout has begun.", schemas.WithdrawOutcome),
    error_format=lnurl,
)
QR: Final = Operation(
    id="showWithdrawal",
    tag=AROUND,
    summary="Show a link as a QR code",
    description="An SVG picture of the link's LNURL. It loads nothing, and holds the token: show it to its owner only.",
    parameters=(_TOKEN,),
    answers=(Answer(200, "The picture.", {SVG: None}),),
    errors=(Code.NOT_FOUND,),
    error_format=lnurl,
)
