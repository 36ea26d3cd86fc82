"""Addresses of payment pages: each is one invoice of this server, sealed so that it shows neither session nor job.

Only such an address has a page and a QR code: nobody can have this server show an invoice of their own, or draw any
text. Nothing is kept for it. It is the same each time, so that a repeated answer is the same answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from ...actors.domain.payments import invoices
from ...actors.domain.payments.invoices import ShowInvoice
from ..schema import Invoice
from ..state import AppState
from .views import invoice as view_of

PATH: Final = "/pay"
NAME_CHARS: Final = 68
"""Length of a sealed name in characters."""
_ID_BYTES: Final = 24
_HASH_BYTES: Final = 10
_LETTERS: Final = {"ses": b"s", "job": b"j"}
_KINDS: Final = {letter: kind for kind, letter in _LETTERS.items()}


class PageOf(NamedTuple):
    """The content of an address: an actor, and the question for its invoice."""

    actor_id: str
    question: ShowInvoice


class PayPages:
    """Maker and reader of addresses. They are absolute only by the operator's setting, as links to withdraw are."""

    def __init__(self, state: AppState) -> None:
        self._origin = state.settings.public_url or ""
        previous = state.previous_keys
        keys = [state.pay_page_key, *([] if previous is None else [previous.pay_pages])]
        # AES-SIV needs no nonce: the same content has the same name.
        self._boxes = [AESSIV(hashlib.sha256(key).digest()) for key in keys]

    def view(self, actor_id: str, shown: invoices.Invoice, *, of_previous_key: bool = False) -> Invoice:
        """Return the JSON model of an actor's invoice, with the address of its page.

        `of_previous_key`: the answer was given before the root key was changed, and must be the same.
        """
        return view_of(shown, self.url(actor_id, shown.payment_hash, of_previous_key=of_previous_key))

    def url(self, actor_id: str, payment_hash: str, *, of_previous_key: bool = False) -> str:
        """Return the address of an invoice's page; a path where the operator did not set SATMETER_PUBLIC_URL."""
        return f"{self._origin}{self.path(actor_id, payment_hash, of_previous_key=of_previous_key)}"

    def path(self, actor_id: str, payment_hash: str, *, of_previous_key: bool = False) -> str:
        """Return the path of an invoice's page."""
        box = self._boxes[-1] if of_previous_key else self._boxes[0]
        kind, _, name = actor_id.partition("_")
        end = bytes.fromhex(payment_hash)[-_HASH_BYTES:]
        sealed = box.encrypt(_LETTERS[kind] + base64.urlsafe_b64decode(name) + end, None)
        return f"{PATH}/{base64.urlsafe_b64encode(sealed).decode()}"

    def read(self, name: str) -> PageOf | None:
        """Return the content of a sealed name; None for any other text."""
        if len(name) != NAME_CHARS or not name.isascii():
            return None
        try:
            sealed = base64.b64decode(name, altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        for box in self._boxes:
            try:
                content = box.decrypt(sealed, None)
            except InvalidTag:
                continue
            actor = base64.urlsafe_b64encode(content[1 : 1 + _ID_BYTES]).decode()
            end = content[1 + _ID_BYTES :].hex()
            return PageOf(f"{_KINDS[content[:1]]}_{actor}", ShowInvoice(end))
        return None
