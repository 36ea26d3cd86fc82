"""A server and an LNbits in memory, before which the client's flows are played: with a clock of its own, and faults."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from satmeter.actors.adapters.stub.bolt11_signing import sign_invoice
from satmeter.actors.domain.credentials.macaroon import MacaroonId, mint, session_id
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.client.core import Core
from satmeter.client.flow import (
    Action,
    Emit,
    Exclusive,
    Flow,
    Invoke,
    Lost,
    Now,
    OpenStream,
    ReadStream,
    Reply,
    Request,
    Retries,
    Send,
    Sleep,
)
from satmeter.client.state import MemoryStore
from satmeter.client.wallets import LnbitsWallet, Wallet
from tests.helpers.client_lnbits import ADMIN_KEY, LNBITS, FakeLnbits, Json, reply
from tests.helpers.jobs import FEES

SERVER = "http://satmeter.test"
Fault = Callable[[Request], str | None]
"""What happens to a request: None, `lost` before it arrives, `unanswered` after it was carried out, `503`, `died`."""


class DiedError(BaseException):
    """The client's process ends here."""


def refused(status: int, code: str, **details: Any) -> Reply:
    return reply(status, {"error": f"It is {code}.", "code": code, "requestId": "req_x", **details})


@dataclass
class FakeSession:
    """A session's money, in msat."""

    session_id: str
    macaroon: str
    deposited: int = 0
    spent: int = 0
    owed: int = 0
    paid_back: int = 0
    closed: bool = False
    invoices: dict[str, Json] = field(default_factory=dict)
    entries: list[Json] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return 0 if self.closed else self.deposited - self.spent

    @property
    def state(self) -> str:
        return "closed" if self.closed else "active" if self.deposited else "awaiting_payment"


@dataclass
class FakeServer:
    """Sessions by the contract, as far as the client uses it. `price_msat` is what each request costs, and holds."""

    world: World
    price_msat: int = 10_000
    least_sats: int = 1
    sessions: dict[str, FakeSession] = field(default_factory=dict)
    kept: dict[tuple[str, str], Reply] = field(default_factory=dict)
    owners: dict[str, FakeSession] = field(default_factory=dict)
    invoice_changes: Json = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    jobs: dict[str, Json] = field(default_factory=dict)

    def handle(self, request: Request) -> Reply:
        path, key = urlsplit(request.url).path, request.headers.get("Idempotency-Key", "")
        if request.method == "POST" and (path, key) in self.kept:
            return self.kept[path, key]
        answer = self._handle(request.method, path, msgspec.json.decode(request.body or b"{}"), request)
        if request.method == "POST" and answer.status in (200, 201):
            self.kept[path, key] = answer
        return answer

    def _handle(self, method: str, path: str, body: Json, request: Request) -> Reply:
        if path == "/sessions":
            return self._open(body["amountSats"])
        if path in self.jobs:
            return reply(200, self.jobs[path])
        _, _, session_id_, *what = path.split("/")
        session = self.sessions.get(session_id_)
        if session is None:
            return refused(404, "not_found")
        if request.headers.get("Authorization") != f"Bearer {session.macaroon}":
            return refused(401, "invalid_credential")
        match what:
            case []:
                return reply(200, self._status(session))
            case ["ledger"]:
                after = int(parse_qs(urlsplit(request.url).query)["after"][0])
                return reply(200, {"entries": [e for e in session.entries if e["seq"] > after]})
            case ["topup"]:
                return reply(201, {"topUpInvoice": self.invoice(session, body["amountSats"])})
            case ["request"]:
                return self._ask(session, body)
            case ["withdraw"]:
                self._close(session, None)
                told = self._status(session)
                lnurl = "LNURL1DP68GURN8GHJ7"
                told["refund"] |= {"withdraw": {"lnurl": lnurl, "link": f"lightning:{lnurl}", "qr": f"{SERVER}/qr.svg"}}
                return reply(200, told)
            case ["close"]:
                return self._close(session, body.get("paymentRequest"))
        return refused(404, "not_found")

    def _open(self, amount_sats: int) -> Reply:
        if amount_sats < self.least_sats:
            return refused(400, "invalid_request", fields=[])
        name = session_id(hashlib.sha256(f"{len(self.sessions)}".encode()).digest()[:24])
        macaroon = mint(b"key", MacaroonId("0" * 64, name, 0))
        session = self.sessions[name] = FakeSession(name, macaroon)
        made = self.invoice(session, amount_sats)
        opened = {"sessionId": name, "state": "awaiting_payment", "macaroon": macaroon, "depositInvoice": made}
        return reply(201, {**opened, "expiresAt": made["expiresAt"]})

    def _ask(self, session: FakeSession, body: Json) -> Reply:
        if session.closed:
            return refused(410, "closed")
        if not session.deposited:
            return refused(402, "payment_required")
        if session.balance < self.price_msat:
            offer = self.invoice(session, max(self.least_sats, -(-(self.price_msat - session.balance) // 1_000)))
            money = {"requiredMsat": self.price_msat, "balanceMsat": session.balance}
            return refused(402, "insufficient_balance", **money, topUpInvoice=offer)
        session.spent += self.price_msat
        self.answered.append(body["request"])
        return reply(200, self.answer(session, body["request"]))

    def answer(self, session: FakeSession, text: str) -> Json:
        tokens = {f"{kind}Tokens": 1 for kind in ("actualInput", "actualOutput", "total", "cacheRead", "cacheWrite")}
        charged = {"chargedMsat": self.price_msat, "paidMsat": self.price_msat, "refundMsat": 0}
        ledger = {"model": "m", **tokens, "actualCostUsd": "0.01", **charged}
        balance = {"balanceMsat": session.balance, "balanceSats": session.balance // 1_000}
        told = {"requestId": "req_x", "state": "complete", "model": "m", "maxTokens": 100, "costLedger": ledger}
        return {**told, "debitedMsat": self.price_msat, **balance, "result": f"answer to {text}"}

    def _close(self, session: FakeSession, payment_request: str | None) -> Reply:
        if not session.closed:
            session.owed, session.closed = session.deposited - session.spent, True
        if payment_request is not None and session.owed:
            payable = FEES.largest_payout(Msat(session.owed)).value
            amount = payable if "@" in payment_request else read_invoice(payment_request).amount_msat.value
            if amount + max(2_000, -(-amount // 100)) > session.owed:
                return refused(400, "invalid_request", fields=[])
            session.owed -= amount
            session.paid_back += amount
        return reply(200, self._status(session))

    def _status(self, session: FakeSession) -> Json:
        payable = FEES.largest_payout(Msat(session.owed)).whole_sats
        paid = "partly_paid" if payable else "paid"
        state = paid if session.paid_back else "owed" if session.owed else "none"
        refund = {"owedMsat": session.owed, "paidMsat": session.paid_back, "payableSats": payable, "state": state}
        pending = [i for i in session.invoices.values() if i["paymentHash"] not in self._credited(session)]
        money: Json = {"balanceMsat": session.balance, "balanceSats": session.balance // 1_000, "heldMsat": 0}
        money |= {"depositedMsat": session.deposited, "spentMsat": session.spent, "refund": refund}
        told = {"sessionId": session.session_id, "state": session.state, **money}
        return {**told, "expiresAt": self.world.at(86_400), "pendingInvoices": pending}

    @staticmethod
    def _credited(session: FakeSession) -> set[str]:
        return {entry["paymentHash"] for entry in session.entries}

    def invoice(self, session: FakeSession, amount_sats: int) -> Json:
        made = {**self.world.invoice(amount_sats), **self.invoice_changes}
        session.invoices[made["paymentHash"]] = made
        self.owners[made["paymentHash"]] = session
        return made

    def credit(self, payment_hash: str) -> None:
        """The node says that this was paid."""
        session = self.owners[payment_hash]
        assert payment_hash not in self._credited(session), "paid twice"
        amount = session.invoices[payment_hash]["amountSats"] * 1_000
        session.deposited += amount
        seq = len(session.entries) + 1
        entry = {"seq": seq, "at": self.world.at(0), "kind": "deposit", "amountMsat": amount, "balanceMsat": amount}
        session.entries.append({**entry, "paymentHash": payment_hash})
        if session.closed:
            session.owed += amount


class World:
    """All of it. `fault` says what happens to a request; `sent` are those that were made."""

    def __init__(self) -> None:
        self.clock_s = 1_800_000_000.0
        self.server = FakeServer(self)
        self.lnbits = FakeLnbits(self)
        self.store = MemoryStore(SERVER)
        self.fault: Fault = lambda request: None
        self.sent: list[Request] = []
        self.stream: list[Iterator[bytes | Reply | Lost]] = []
        self._invoices = 0

    def core(self, budget_sats: int | None = 1_000, wallet: Wallet | None = None, **options: Any) -> Core:
        """A client with the state of the last one, as one that was started again has."""
        wallet = wallet or LnbitsWallet(LNBITS, ADMIN_KEY)
        return Core(SERVER, wallet=wallet, budget_sats=budget_sats, retries=Retries(4, 30), store=self.store, **options)

    def at(self, in_s: float) -> str:
        return datetime.fromtimestamp(self.clock_s + in_s, UTC).isoformat()

    def invoice(self, amount_sats: int, life_s: int = 3_600) -> Json:
        self._invoices += 1
        payment_hash = hashlib.sha256(f"{self._invoices}".encode()).hexdigest()
        text = sign_invoice(
            "11" * 32,
            payment_hash=payment_hash,
            payment_secret="22" * 32,
            amount_msat=Msat.from_sats(amount_sats),
            memo="memo",
            at_s=int(self.clock_s),
            expiry_s=life_s,
        )
        expires_at = self.at(life_s)
        names = {"paymentRequest": text, "paymentHash": payment_hash, "amountSats": amount_sats}
        return {**names, "expiresAt": expires_at}

    def until_alone(self, flow: Flow[Any]) -> Callable[[], Any]:
        """Performs a flow until it wants to pay alone; what is returned goes on from there to its end."""
        action = next(flow)
        while not isinstance(action, Exclusive):
            action = flow.send(self._perform(action))
        return lambda: self.play(flow, begun_at=action)

    def play(self, flow: Flow[Any], emitted: list[str] | None = None, begun_at: Action | None = None) -> Any:
        """Performs a flow to its end."""
        pieces: Iterator[bytes | Reply | Lost] = iter(())
        outcome: Any
        try:
            action = next(flow) if begun_at is None else begun_at
            while True:
                if isinstance(action, OpenStream):
                    pieces = self.stream.pop(0)
                    outcome = next(pieces)
                elif isinstance(action, ReadStream):
                    outcome = next(pieces, None)
                elif isinstance(action, Emit):
                    outcome = None
                    if emitted is not None:
                        emitted.append(action.text)
                else:
                    try:
                        outcome = self._perform(action)
                    except Exception as error:
                        action = flow.throw(error)
                        continue
                action = flow.send(outcome)
        except StopIteration as stop:
            return stop.value
        finally:
            flow.close()

    def _perform(self, action: Action) -> Any:
        match action:
            case Send(request):
                return self._send(request)
            case Sleep(seconds):
                self.clock_s += seconds
            case Now():
                self.clock_s += 0.001
                return self.clock_s
            case Invoke(function, arguments):
                return function(*arguments)
            case Exclusive(flow):
                return self.play(flow)
        return None

    def _send(self, request: Request) -> Reply | Lost:
        self.sent.append(request)
        self.clock_s += 0.01
        fault = self.fault(request)
        if fault == "lost":
            return Lost("ConnectError", sent=False)
        if fault == "503":
            return reply(503, {"error": "Later.", "code": "unavailable", "requestId": "req_x"}, **{"retry-after": "1"})
        if fault == "died":
            raise DiedError
        answer = (self.lnbits if request.url.startswith(LNBITS) else self.server).handle(request)
        if fault == "died after":
            raise DiedError
        return Lost("ReadTimeout", sent=True) if fault == "unanswered" else answer
