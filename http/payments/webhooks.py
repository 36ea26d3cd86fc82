"""Webhook orders of clients: the check of the target, and the secret that signs the messages."""

from __future__ import annotations

from ...actors.domain.money import Msat
from ...actors.domain.webhooks import Webhook, secret_of
from ...config.webhook_policy import TargetError, WebhookTargets
from ..response import errors
from ..state import AppState
from .schemas import JobWebhook, SessionWebhook, WebhookMade


class WebhookOrders:
    """Reader of the webhook in a body."""

    def __init__(self, state: AppState) -> None:
        self._targets = WebhookTargets(state.settings.webhook_allow)
        self._key = state.webhook_key
        self._previous_key = None if state.previous_keys is None else state.previous_keys.webhooks

    def ordered(self, order: JobWebhook | SessionWebhook | None) -> Webhook | None:
        """Return the webhook for the actor. Raises `RefusedError` if its target is forbidden.

        The host name is resolved and checked at each attempt, as its address may change.
        """
        if order is None:
            return None
        try:
            self._targets.target(order.url)
        except TargetError as error:
            raise errors.invalid("webhook.url", str(error)) from None
        low = Msat.from_sats(order.low_balance_sats) if isinstance(order, SessionWebhook) else Msat(0)
        return Webhook(order.url, low)

    def made(self, actor_id: str, webhook: Webhook | None, *, of_previous_key: bool) -> WebhookMade | None:
        """Return the webhook for the client that ordered it, with its secret, the one of the order's first answer."""
        if webhook is None:
            return None
        key = self._previous_key if of_previous_key and self._previous_key is not None else self._key
        return WebhookMade(
            url=webhook.url,
            low_balance_sats=webhook.low_balance_msat.whole_sats or None,
            secret=secret_of(key, actor_id),
        )
