"""Withdrawal links (LNURL-withdraw): what a wallet scans to fetch a refund, without a sum to type."""

from __future__ import annotations

from typing import Final

from ...actors.domain.credentials.withdrawals import Withdrawal, read_token, token_of
from ...actors.domain.errors import RETRY_ACTION, Code, Refusal, RefusedError, RetryAction
from ...actors.domain.job.state import FINAL_STATES, JobView
from ...actors.domain.payments.destinations import encoded
from ...actors.domain.payments.payouts import RefundState
from ..state import AppState
from .schemas import WithdrawLink

PATH: Final = "/lnurl/withdraw"
_NO_ADDRESS: Final = Refusal(
    Code.UNAVAILABLE,
    "This server makes no links to withdraw by: its operator must set SATMETER_PUBLIC_URL. What is owed can be paid to "
    "an invoice or a Lightning address.",
    {RETRY_ACTION: RetryAction.ASK_A_PERSON.value},
    retry_after_s=3_600,
)


class Withdrawals:
    """Maker and reader of links. Their address is the operator's setting: a Host header could be a stranger's."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._url = state.settings.public_url
        previous = state.previous_keys
        self._keys = [state.withdraw_key, *([] if previous is None else [previous.withdrawals])]

    def link(self, actor_id: str, generation: int = 0) -> WithdrawLink:
        """Return the link for what an actor owes. Raises `RefusedError` without an address."""
        self.refuse_without_address()
        url = self.url(token_of(self._state.withdraw_key, actor_id, generation))
        lnurl = encoded(url).upper()
        return WithdrawLink(lnurl=lnurl, link=f"lightning:{lnurl}", qr=f"{url}/qr.svg")

    def of_job(self, view: JobView) -> WithdrawLink | None:
        """Return the link for what a job owes, None where a wallet would get nothing or this server makes none.

        A payout that is under way may fail, and its amount is there again.
        """
        refund = view.refund
        if self._url is None or not self._state.wallet.can_pay or view.state not in FINAL_STATES or refund is None:
            return None
        return self.link(view.job_id) if refund.payable_sats or refund.state is RefundState.PENDING else None

    def refuse_without_address(self) -> None:
        """Raise `RefusedError` if this server can't make links."""
        if self._url is None:
            raise RefusedError(_NO_ADDRESS)

    def read(self, token: str) -> Withdrawal | None:
        """Return the content of a link's token; None for any other text."""
        return read_token(self._keys, token)

    def url(self, token: str) -> str:
        """Return the URL of a token."""
        return f"{self._url or ''}{PATH}/{token}"
