"""Wallets: they pay invoices, and make invoices for money that comes back.

Any error between an order and its answer leaves the outcome unknown, never failed: the client looks up the payment, and
pays nothing else before its outcome is known.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, TextIO, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from .errors import SatmeterError, WalletError
from .flow import Flow, Invoke, Lost, Now, Reply, Request, Retries, Send, deliver
from .models import Invoice
from .wire import USER_AGENT, Server

T = TypeVar("T")

_LOOKS: Final = Retries(attempts_max=3, total_s=10)
_PATH: Final = "/api/v1/payments"
# Modules of white around a QR code; wallets can read it with half of what the standard requires.
_QR_BORDER: Final = 2
# The lines of the invoice, and of the instructions.
_LINES_BELOW_QR: Final = 9


class Outcome(Enum):
    """The known outcome of a payment.

    FAILED: for certain. UNKNOWN: it may have been made, or may yet be. PENDING: the wallet is still paying.
    FAILED_SO_FAR: the wallet reports a failure that is not final. ABSENT: the wallet does not know the payment, so far.
    SHOWN: a person has the invoice now, and pays it or not.
    """

    PAID = "paid"
    FAILED = "failed"
    UNKNOWN = "unknown"
    PENDING = "pending"
    FAILED_SO_FAR = "failed so far"
    ABSENT = "absent"
    SHOWN = "shown"


@dataclass(frozen=True, slots=True)
class Report:
    """An outcome, and its reason."""

    outcome: Outcome
    reason: str = ""


_STATES: Final = {"success": Outcome.PAID, "failed": Outcome.FAILED_SO_FAR, "pending": Outcome.PENDING}
# The order is not sent if the look-up before it took longer: a later report must not precede its order.
_ORDER_WITHIN_S: Final = 30.0
PAID: Final = Report(Outcome.PAID)
UNKNOWN: Final = Report(Outcome.UNKNOWN)


class Wallet(Protocol):
    """The interface of wallets. `by_hand`: a person pays, and sees the payment."""

    by_hand: bool

    def pay(self, server: Server, invoice: Invoice) -> Flow[Report]:
        """Pay the invoice at most once. An exception counts as UNKNOWN."""
        ...

    def look_up(self, invoice: Invoice) -> Flow[Report]:
        """Return the outcome of the payment. An exception counts as UNKNOWN."""
        ...

    def receive(self, server: Server, amount_sats: int, memo: str) -> Flow[str]:
        """Return a BOLT11 invoice of the wallet for money that comes back. Raises `WalletError` if it makes none."""
        ...


class StubWallet:
    """A wallet at the stub node of a development server. No money moves."""

    by_hand = False

    def pay(self, server: Server, invoice: Invoice) -> Flow[Report]:
        """Mark the invoice paid."""
        request = server.request("POST", f"/dev/stub/pay/{quote(invoice.payment_hash)}")
        reply = yield from deliver(request, server.retries)
        if reply.status == 200:
            return PAID
        if reply.status == 404:
            return Report(Outcome.FAILED, "this server has a real Lightning node; it takes a real wallet")
        return Report(Outcome.UNKNOWN, f"the stub node answered {reply.status}")

    def look_up(self, invoice: Invoice) -> Flow[Report]:
        """Return UNKNOWN: the server itself knows the outcome."""
        yield from ()
        return UNKNOWN

    def receive(self, server: Server, amount_sats: int, memo: str) -> Flow[str]:
        """Return an invoice of the stub node."""
        made = yield from server.call(Invoice, "POST", "/dev/stub/invoice", body={"amountSats": amount_sats})
        return made.payment_request


class CallbackWallet:
    """A wallet of your own, by functions; those of an `AsyncSatmeter` may be coroutine functions.

    `pay(invoice)` pays `invoice.payment_request` and returns when it is paid; False means that it certainly was not and
    will not be. After an exception, `look_up(invoice)` is called, which returns True (paid), False (certainly
    not) or None (not known). `receive(amount_sats, memo)` makes an invoice for money that comes back.
    """

    by_hand = False

    def __init__(
        self,
        pay: Callable[[Invoice], bool | Awaitable[bool | None] | None],
        *,
        look_up: Callable[[Invoice], bool | Awaitable[bool | None] | None] | None = None,
        receive: Callable[[int, str], str | Awaitable[str]] | None = None,
    ) -> None:
        self._pay = pay
        self._look_up = look_up
        self._receive = receive

    def pay(self, server: Server, invoice: Invoice) -> Flow[Report]:
        """Call the `pay` function."""
        paid = yield Invoke(self._pay, (invoice,))
        return Report(Outcome.FAILED, "the wallet says so") if paid is False else PAID

    def look_up(self, invoice: Invoice) -> Flow[Report]:
        """Call the `look_up` function, if there is one."""
        if self._look_up is None:
            return UNKNOWN
        paid = yield Invoke(self._look_up, (invoice,))
        if paid is None:
            return UNKNOWN
        return PAID if paid else Report(Outcome.FAILED, "the wallet says so")

    def receive(self, server: Server, amount_sats: int, memo: str) -> Flow[str]:
        """Call the `receive` function. Raises `WalletError` without one."""
        if self._receive is None:
            raise WalletError("The wallet makes no invoices: give it a `receive` function.")
        return str((yield Invoke(self._receive, (amount_sats, memo))))


class TerminalWallet:
    """A wallet of a person: the terminal shows the invoice and its QR code, and waits until it is paid.

    It writes to `out`, by default to standard error.
    """

    by_hand = True

    def __init__(self, out: TextIO | None = None, read_line: Callable[[], str] | None = None) -> None:
        self._out = out
        self._read_line = read_line

    def pay(self, server: Server, invoice: Invoice) -> Flow[Report]:
        """Show the invoice."""
        yield Invoke(self._show, (invoice,))
        return Report(Outcome.SHOWN)

    def look_up(self, invoice: Invoice) -> Flow[Report]:
        """Return UNKNOWN: only the server knows the outcome."""
        yield from ()
        return UNKNOWN

    def receive(self, server: Server, amount_sats: int, memo: str) -> Flow[str]:
        """Ask the person for an invoice. Raises `WalletError` without a terminal, or without an answer."""
        return str((yield Invoke(self._ask, (amount_sats,))))

    def _show(self, invoice: Invoice) -> None:
        out = self._out or sys.stderr
        advice = show_code(f"lightning:{invoice.payment_request}", out, "invoice")
        out.write(f"\n{invoice.payment_request}\n\n{advice}")
        # Written last, so that it stays in sight: the code alone may fill the screen.
        out.write(f"Please pay {invoice.amount_sats} sats until {invoice.expires_at:%H:%M:%S} UTC.\n")
        out.write("Waiting for the payment (Ctrl-C ends it) ...\n")
        out.flush()

    def _ask(self, amount_sats: int) -> str:
        if self._read_line is None and not sys.stdin.isatty():
            raise WalletError("There is no terminal to ask for an invoice at.")
        out = self._out or sys.stderr
        out.write(f"Please give an invoice of your wallet over {amount_sats} sats: ")
        out.flush()
        text = (self._read_line or sys.stdin.readline)().strip()
        if not text:
            raise WalletError("No invoice was given.")
        return text


def show_code(text: str, out: TextIO, what: str) -> str:
    """Write a text of any letter case as a QR code; return advice if it does not fit into the terminal.

    `what`: the noun for the text, which can be copied instead.
    """
    import segno

    # Upper case makes the code smaller: QR codes have an alphabet for it.
    code = segno.make(text.upper(), error="l", micro=False)
    out.write("\n")
    code.terminal(out=out, compact=True, border=_QR_BORDER)
    width, height = code.symbol_size(border=_QR_BORDER)
    return _too_small(int(width), -(-int(height) // 2), what)


def _too_small(columns: int, lines: int, what: str) -> str:
    """Return advice if a code of this size does not fit into the terminal, else an empty text."""
    size, lines = shutil.get_terminal_size(), lines + _LINES_BELOW_QR
    if columns <= size.columns and lines <= size.lines:
        return ""
    return (
        f"The code needs {columns} columns and {lines} lines, and this terminal has {size.columns} and {size.lines}.\n"
        f"Make the window larger or its letters smaller, or copy the {what} into your wallet.\n\n"
    )


class _Row(msgspec.Struct, frozen=True):
    payment_hash: str
    amount: int
    status: str
    bolt11: str = ""


class _Page(msgspec.Struct, frozen=True):
    data: list[_Row]
    total: int


class _Refused(msgspec.Struct, frozen=True):
    detail: Any = None
    status: str = ""


class LnbitsWallet:
    """A wallet at LNbits, with its admin key, which spends. It pays real money if LNbits has a real node."""

    by_hand = False

    def __init__(self, url: str, admin_key: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"not the address of an LNbits: {url!r}")
        if not admin_key or not admin_key.isascii() or not admin_key.isprintable():
            raise ValueError("that is not a key of an LNbits wallet")
        self._url = url.rstrip("/")
        self._admin_key = admin_key

    def __repr__(self) -> str:
        return f"LnbitsWallet({self._url!r})"

    def pay(self, server: Server, invoice: Invoice) -> Flow[Report]:
        """Order the payment once, and look up its outcome: only LNbits's list decides, and not always at once.

        LNbits pays in a task that outlives the call, and a look-up that comes before its node knows of the payment
        makes LNbits mark it as failed. So "failed" is final at once only if the call itself ended with it, too.
        """
        begun_s: float = yield Now()
        try:
            rows = yield from self._rows(invoice)
        except SatmeterError as error:
            # Nothing was ordered, and the outcomes of earlier orders are known.
            return Report(Outcome.FAILED, str(error))
        if rows:
            return _report(rows)
        now_s: float = yield Now()
        if now_s - begun_s > _ORDER_WITHIN_S:
            return Report(Outcome.FAILED, "LNbits takes too long to answer, and was ordered nothing")
        order = {"out": True, "bolt11": invoice.payment_request}
        outcome = yield Send(self._request("POST", _PATH, order))
        if isinstance(outcome, Lost):
            if not outcome.sent:
                return Report(Outcome.FAILED, f"LNbits can't be reached: {outcome.reason}")
            return (yield from self._known(invoice))
        row = _read(outcome, _Row) if outcome.status == 201 else None
        if row is not None and row.payment_hash == invoice.payment_hash and row.status == "success":
            return PAID
        refused = _read(outcome, _Refused) or _Refused()
        reason = f"LNbits answered {outcome.status}: {refused.detail}"
        # The key or the order was refused before LNbits read the invoice.
        if outcome.status in (401, 403, 422):
            return Report(Outcome.FAILED, reason)
        report = yield from self._known(invoice)
        ended = outcome.status == 520 and refused.status == "failed"
        if ended and report.outcome in (Outcome.FAILED_SO_FAR, Outcome.ABSENT):
            return Report(Outcome.FAILED, reason)
        return report

    def look_up(self, invoice: Invoice) -> Flow[Report]:
        """Return the outcome in LNbits's list of payments to this invoice. Raises `SatmeterError`."""
        rows = yield from self._rows(invoice)
        return _report(rows) if rows else Report(Outcome.ABSENT, "LNbits does not know this payment")

    def receive(self, server: Server, amount_sats: int, memo: str) -> Flow[str]:
        """Return a new invoice. Raises `WalletError`."""
        order = {"out": False, "unit": "sat", "amount": amount_sats, "memo": memo}
        # Repeating a lost request makes another invoice, which does no harm: unpaid invoices expire.
        reply = yield from deliver(self._request("POST", _PATH, order), _LOOKS)
        row = _read(reply, _Row) if reply.status == 201 else None
        if row is None or not row.bolt11:
            raise WalletError(f"The LNbits wallet makes no invoice: it answered {reply.status}.")
        return row.bolt11

    def _rows(self, invoice: Invoice) -> Flow[list[_Row]]:
        """Return outgoing payments to this invoice; LNbits asks its node about pending ones. Raises `WalletError`."""
        # The path of a single payment would show the incoming one, too, if both wallets are at the same LNbits.
        query = {"payment_hash[eq]": invoice.payment_hash, "amount[lt]": "0", "recheck_pending": "true", "limit": "10"}
        reply = yield from deliver(self._request("GET", f"{_PATH}/paginated?{urlencode(query)}"), _LOOKS)
        if reply.status in (401, 403, 404):
            raise WalletError(f"LNbits answered {reply.status}: is that its address, and the wallet's admin key?")
        page = _read(reply, _Page) if reply.status == 200 else None
        # LNbits ignores filters that it does not know.
        if page is None or any(row.payment_hash != invoice.payment_hash or row.amount >= 0 for row in page.data):
            raise WalletError(f"LNbits answered {reply.status}, and nothing that can be understood.")
        if page.total and not page.data:
            raise WalletError("LNbits gave an empty list of payments that exist.")
        return page.data

    def _known(self, invoice: Invoice) -> Flow[Report]:
        try:
            return (yield from self.look_up(invoice))
        except SatmeterError as error:
            return Report(Outcome.UNKNOWN, str(error))

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Request:
        headers = {"X-Api-Key": self._admin_key, "User-Agent": USER_AGENT, "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return Request(method, f"{self._url}{path}", headers, None if body is None else msgspec.json.encode(body))


def _report(rows: list[_Row]) -> Report:
    """Return the worst outcome for the payer, should one invoice ever have several payments."""
    outcomes = {_STATES.get(row.status, Outcome.UNKNOWN) for row in rows}
    for outcome in (Outcome.PAID, Outcome.PENDING, Outcome.UNKNOWN):
        if outcome in outcomes:
            return Report(outcome)
    return Report(Outcome.FAILED_SO_FAR, "LNbits could not pay it")


def _read(reply: Reply, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(reply.body, type=kind, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
