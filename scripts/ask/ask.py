"""`satmeter ask`: a question on the command line, paid from a session."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from ...client import (
    BudgetExceededError,
    LnbitsWallet,
    PaymentFailedError,
    PaymentInDoubtError,
    PaymentNotSeenError,
    Satmeter,
    SatmeterError,
    SessionStatus,
    StreamInterruptedError,
    StubWallet,
    TerminalWallet,
    Wallet,
    WalletError,
    WrongInvoiceError,
)
from ...client.refunds import payable_sats
from ...client.wallets import show_code
from .wallet import LNBITS_KEY, LNBITS_URL, WalletKind, lnbits_of_environment

_CONTROL: Final = re.compile(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]")
_FAILED: Final = 1
_USAGE: Final = 2
_REJECTED: Final = 3
_NOT_PAID: Final = 4
_INTERRUPTED: Final = 130
# Statuses after which the client repeats a request silently.
_AGAIN: Final = (429, 502, 503, 504)
_UNPAID: Final = (
    BudgetExceededError,
    PaymentFailedError,
    PaymentInDoubtError,
    PaymentNotSeenError,
    WalletError,
    WrongInvoiceError,
)


@dataclass(frozen=True, slots=True)
class Question:
    """The flags of the command."""

    server: str
    request: str | None
    model: str | None
    max_tokens: int | None
    max_sats: int | None
    budget_sats: int
    deposit_sats: int
    wallet: WalletKind
    session_file: Path
    close: bool
    refund_to: str | None
    qr: bool
    quiet: bool


def run(question: Question) -> int:
    """Ask the question, and return the exit status."""
    try:
        wallet = wallet_of(question.wallet, question.server)
    except (ValueError, SatmeterError) as error:
        _say(str(error))
        return _USAGE if isinstance(error, ValueError) else _FAILED
    except KeyboardInterrupt:
        _say("\nInterrupted. Nothing was paid.")
        return _INTERRUPTED
    client = Satmeter(
        question.server,
        wallet=wallet,
        budget_sats=question.budget_sats,
        deposit_sats=question.deposit_sats,
        top_up_sats=question.deposit_sats,
        session_file=question.session_file,
        transport=Announcing(_say),
    )
    with client:
        try:
            status = 0 if question.request is None else _ask(client, question, question.request)
            if question.close:
                _say(_by_code(client) if question.qr else _refund(client.close_session(question.refund_to)))
        except KeyboardInterrupt:
            _say(f"\nInterrupted. {_paid_so_far(client, wallet, question.session_file)}")
            return _INTERRUPTED
        except _UNPAID as error:
            _say(f"{error}\n{advice(error)}")
            if isinstance(error, BudgetExceededError):
                _say(f"--budget counts all that was ever paid from {question.session_file}: give a larger one.")
            return _NOT_PAID
        except BrokenPipeError:
            # The reader of standard output has gone. Python would report that again when it flushes at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _FAILED
        except SatmeterError as error:
            _say(f"{error}\n{advice(error)}")
            return _FAILED
    return status


def advice(error: SatmeterError) -> str:
    """Return what a program does next after an error, and what became of its payment, as the last line about it."""
    return f"[retry_action: {error.retry_action.value}, payment_state: {error.payment_state.value}]"


class Announcing(httpx.HTTPTransport):
    """A transport that reports at once when a server does not answer; the client would repeat the request silently.

    It reports once for each server. `say` gets the line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._said: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request as the base class does, and report a server that does not answer."""
        try:
            response = super().handle_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self._announce(request, "can't be reached: is it running, and is this its address?")
            raise
        if response.status_code in _AGAIN:
            self._announce(request, f"answers with status {response.status_code}.")
        return response

    def _announce(self, request: httpx.Request, what: str) -> None:
        place = f"{request.url.scheme}://{request.url.netloc.decode('ascii', 'replace')}"
        if place not in self._said:
            self._said.add(place)
            self._say(f"{place} {what} Trying again for a while (Ctrl-C ends it) ...")


def _paid_so_far(client: Satmeter, wallet: Wallet, file: Path) -> str:
    try:
        if not client.paid_sats:
            return "Nothing was paid."
    except SatmeterError as error:
        return str(error)
    if wallet.by_hand:
        return f"What you have paid, or pay now, is not lost: ask again, and it goes on with {file}."
    return f"What was paid is in {file}."


def wallet_of(kind: WalletKind, server: str) -> Wallet:
    """Return the wallet of this kind. Raises `ValueError` for wrong settings, `SatmeterError` without a server."""
    lnbits = lnbits_of_environment()
    if kind is WalletKind.LNBITS and lnbits is None:
        raise ValueError(f"--wallet lnbits needs {LNBITS_URL} and {LNBITS_KEY}, the wallet's admin key.")
    if lnbits is not None and kind in (WalletKind.AUTO, WalletKind.LNBITS):
        return LnbitsWallet(*lnbits)
    if kind is WalletKind.AUTO:
        with Satmeter(server, transport=Announcing(_say)) as client:
            kind = WalletKind.STUB if client.has_stub_node() else WalletKind.TERMINAL
    return StubWallet() if kind is WalletKind.STUB else TerminalWallet()


def _ask(client: Satmeter, question: Question, request: str) -> int:
    max_msat = None if question.max_sats is None else question.max_sats * 1_000
    stream = client.stream(request, max_tokens=question.max_tokens, model=question.model, max_msat=max_msat)
    with stream:
        try:
            for piece in stream:
                _write(piece)
            answer = stream.answer
        except StreamInterruptedError as error:
            _say("\n[The stream broke off, and the answer was written again:]")
            _write(error.answer.text)
            answer = error.answer
    _write("\n" if answer.result and not answer.result.endswith("\n") else "")
    if answer.state == "rejected":
        _say(f"The request was rejected: {answer.reason}")
    if not question.quiet:
        _say(
            f"{answer.debited_msat / 1_000:.3f} sats; {answer.balance_sats} sats are left in the session, "
            f"{client.budget_left_sats} of the budget. Model: {answer.model}."
        )
    return _REJECTED if answer.state == "rejected" else 0


def _by_code(client: Satmeter) -> str:
    """Show the code of the session's rest, and return what to do with it."""
    lnurl = client.withdraw_link().lnurl
    advice = show_code(lnurl, sys.stderr, "LNURL")
    return f"\n{lnurl}\n\n{advice}The session is closed. Scan the code with your wallet: its holder gets what is left."


def _refund(status: SessionStatus) -> str:
    refund = status.refund
    if refund.state == "pending":
        return "The session is closed, and its refund is on its way. Repeat --close to see how it ended."
    back_sats, left_sats = refund.paid_msat // 1_000, payable_sats(refund)
    came = f"{back_sats} sats came back" if back_sats or not refund.owed_msat else "nothing came back yet"
    if not left_sats:
        return f"The session is closed; {came}."
    why = f" ({refund.failure})" if refund.failure else ""
    return f"The session is closed; {came}, and {left_sats} sats are still owed to you{why}. Repeat --close."


def _write(text: str) -> None:
    if sys.stdout.isatty():
        # Escape sequences in an answer could control the terminal.
        text = _CONTROL.sub("", text)
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
