"""HTTP client of the server, as the load test uses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from ..http_client import Answer, LostError, OnBody, Pool
from .books import Entry, Status, Tally
from .options import LoadError
from .retry import UNAVAILABLE, Delivery, deliver

_LEDGER_PAGE: Final = 1_000
_EVENT: Final = b"event: "
_DATA: Final = b"\ndata: "
_DELTA: Final = b"event: delta"
# Status that a refusal within a stream would have had as an answer of its own.
_STATUS_OF: Final[Mapping[str, int]] = {"unavailable": 503, "overloaded": 503, "model_failed": 502}
_STREAM_RETRY_AFTER: Final = {b"retry-after": b"1"}

T = TypeVar("T")


class Invoice(msgspec.Struct, frozen=True, rename="camel"):
    """An invoice to pay."""

    payment_request: str
    payment_hash: str
    amount_sats: int


class Opened(msgspec.Struct, frozen=True, rename="camel"):
    """Answer to the opening of a session."""

    session_id: str
    macaroon: str
    deposit_invoice: Invoice


class Said(msgspec.Struct, frozen=True, rename="camel"):
    """Body of the answer to a request, or of a refusal, as far as it is read.

    `debited_msat`: set only when something was charged.
    """

    request_id: str = ""
    debited_msat: int | None = None
    code: str = ""
    error: str = ""


@dataclass(slots=True)
class Holder:
    """A session that belongs to this test: its credential, and what is known of its money."""

    session_id: str
    macaroon: str
    tally: Tally = field(default_factory=Tally)

    @property
    def path(self) -> str:
        """Path under which everything of the session is."""
        return f"/sessions/{self.session_id}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers that let the holder in."""
        return {"Authorization": f"Bearer {self.macaroon}"}


_SAID: Final = msgspec.json.Decoder(Said)


def said(answer: Answer) -> Said:
    """Return what the body says; an empty `Said` if it did not come from a Satmeter server."""
    try:
        return _SAID.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Said()


def refusal(delivery: Delivery) -> str:
    """Describe in a sentence why there was no good answer."""
    if delivery.answer is None:
        return f"no answer after {delivery.attempts} attempts: {delivery.why}"
    text = said(delivery.answer).error or "it is not one of a Satmeter server"
    return f"the answer was {delivery.answer.status}: {text}"


def stream_end(answer: Answer) -> Answer:
    """Return the last event of a streamed answer as the answer that it would have been unstreamed.

    Raises `LostError` when the last event is missing: the stream was cut off.
    """
    if answer.status != 200:
        return answer
    name, _, data = answer.body[answer.body.rfind(_EVENT) + len(_EVENT) :].partition(_DATA)
    whole = answer._replace(body=data.strip())
    if name == b"done":
        return whole
    if name != b"error":
        raise LostError("the stream ended without its last event", sent=True)
    status = _STATUS_OF.get(said(whole).code, 500)
    return whole._replace(status=status, headers=_STREAM_RETRY_AFTER if status == 503 else {})


def has_text(piece: bytes) -> bool:
    """Return whether this piece of a stream brings text of the model."""
    return _DELTA in piece


class Server:
    """A running Satmeter server, over HTTP."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def check(self) -> None:
        """Raise `LoadError` unless a Satmeter server answers."""
        delivery = await deliver(lambda: self._pool.request("GET", "/healthz"), attempts_max=3)
        if delivery.answer is None or delivery.answer.status != 200:
            raise LoadError(f"No Satmeter server answers there ({refusal(delivery)}): start one with `satmeter serve`.")

    async def open(self, amount_sats: int, key: str) -> Opened:
        """Open a session, which then waits for its deposit. Raises `LoadError`."""
        body, headers = {"amountSats": amount_sats}, {"Idempotency-Key": key}
        delivery = await deliver(
            lambda: self._pool.request("POST", "/sessions", body, headers), retry=(*UNAVAILABLE, 429)
        )
        if delivery.answer is not None and delivery.answer.status == 429:
            raise LoadError(
                f"A session can't be opened: {said(delivery.answer).error} This server limits unpaid invoices: start "
                "it with SATMETER_RATE_LIMITS=off for load tests."
            )
        return _read(delivery, Opened, "A session can't be opened", good=(201,))

    async def pay_stub(self, invoice: Invoice) -> None:
        """Mark an invoice of the stub node paid. Raises `LoadError`."""
        path = f"/dev/stub/pay/{invoice.payment_hash}"
        delivery = await deliver(lambda: self._pool.request("POST", path))
        if delivery.answer is not None and delivery.answer.status == 404:
            raise LoadError(
                "This server has a real Lightning node: name the LNbits wallet that pays the deposits by --lnbits-url, "
                "with its admin key in SATMETER_LOAD_ADMIN_KEY."
            )
        if delivery.answer is None or delivery.answer.status != 200:
            raise LoadError(f"A deposit can't be paid at the stub node: {refusal(delivery)}")

    async def ask(self, holder: Holder, body: Mapping[str, Any], key: str, on_body: OnBody | None) -> Answer:
        """Make one attempt at a request; return the answer, of a streamed one the end. Raises `LostError`."""
        headers = {**holder.headers, "Idempotency-Key": key}
        answer = await self._pool.request("POST", f"{holder.path}/request", body, headers, on_body)
        return stream_end(answer) if on_body is not None else answer

    async def show(self, holder: Holder) -> Status:
        """Return the session as it is now. Raises `LoadError`."""
        delivery = await deliver(lambda: self._pool.request("GET", holder.path, headers=holder.headers))
        return _read(delivery, Status, f"{holder.session_id} can't be read")

    async def ledger(self, holder: Holder) -> list[Entry]:
        """Read the session's whole ledger, in pages. Raises `LoadError`."""
        entries: list[Entry] = []
        while True:
            after = entries[-1].seq if entries else 0
            path = f"{holder.path}/ledger?after={after}&limit={_LEDGER_PAGE}"
            page = await self._page(holder, path)
            entries += page
            if len(page) < _LEDGER_PAGE:
                return entries

    async def close_session(self, holder: Holder, payment_request: str | None, key: str) -> Delivery:
        """Close the session, with the rest to be paid to the invoice, if there is one."""
        body = {} if payment_request is None else {"paymentRequest": payment_request}
        headers = {**holder.headers, "Idempotency-Key": key}
        # 425: the payout is under way; a later attempt gets its end.
        return await deliver(
            lambda: self._pool.request("POST", f"{holder.path}/close", body, headers), retry=(*UNAVAILABLE, 425)
        )

    async def _page(self, holder: Holder, path: str) -> list[Entry]:
        delivery = await deliver(lambda: self._pool.request("GET", path, headers=holder.headers))
        return _read(delivery, _Ledger, f"The ledger of {holder.session_id} can't be read").entries


class _Ledger(msgspec.Struct, frozen=True):
    entries: list[Entry]


def _read(delivery: Delivery, kind: type[T], failure: str, good: Collection[int] = (200,)) -> T:
    if delivery.answer is None or delivery.answer.status not in good:
        raise LoadError(f"{failure}: {refusal(delivery)}")
    try:
        return msgspec.json.decode(delivery.answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LoadError(f"{failure}: the answer is not one of a Satmeter server ({error})") from None
