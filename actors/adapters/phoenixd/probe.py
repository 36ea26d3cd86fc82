"""Probe of phoenixd before money moves: its password and release, its channel, and what the next one costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httpx

from ....config.problem import Problem
from ....config.settings import Settings
from ...ports import InvoiceOrder, TransientError
from ..lightning.backend import Probed
from ..lightning.http_exchange import Answer
from ..lightning.reading import read
from .access import EMPTY_ORDER, Trouble, trouble_of
from .messages import Balance, Channel, LiquidityFees, NodeInfo, invoice_form, read_incoming, read_new_invoice
from .payouts import PATH as PAY_PATH

URL: Final = "PHOENIXD_URL"
PASSWORD: Final = "PHOENIXD_PASSWORD"  # noqa: S105 - the name of the setting
_PROBLEMS: Final[Mapping[Trouble, Problem]] = {
    Trouble.UNKNOWN: Problem(
        PASSWORD, "phoenixd does not know this password: copy `http-password` from its phoenix.conf."
    ),
    Trouble.LIMITED: Problem(
        PASSWORD,
        "This is `http-password-limited-access`, which can't pay refunds: set `http-password` of phoenix.conf.",
    ),
    Trouble.TOO_OLD: Problem(
        URL, "This phoenixd is older than 0.5, and can't be asked what became of a refund: upgrade it."
    ),
}
# phoenixd's own default for the room that it buys at once.
_AUTO_LIQUIDITY_SATS: Final = 2_000_000
# Invoice that shows that the node makes them. It is never shown to a client, and lapses.
_TRIAL: Final = InvoiceOrder(1, "Satmeter: does this node make invoices?", 60, "none")
_NORMAL: Final = "Normal"

_Words = tuple[list[Problem], list[str]]


async def probe(settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Probed:
    """Return what is wrong with phoenixd, and what its channel costs (see `Probe`). It pays nothing."""
    node = _Node(settings, http)
    try:
        trouble = trouble_of(await node.ask("GET", "/getinfo"), await node.ask("POST", PAY_PATH, EMPTY_ORDER))
        if trouble is not None:
            return Probed([_PROBLEMS[trouble]])
        if may_order:
            await _try_invoice(node)
        warnings, proofs = await _liquidity(node, settings)
    except TransientError as error:
        return Probed(
            [Problem(URL, f"phoenixd can't be asked ({error}): look whether it runs, and whether it is one.")]
        )
    made = ["A test invoice over 1 sat was made and found again."] if may_order else []
    return Probed(warnings=warnings, proofs=["The password may pay.", *made, *proofs])


class _Node:
    """The node as the probe asks it, by a client that is given."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._base = str(settings.phoenixd_url).rstrip("/")
        password = settings.phoenixd_password
        self._auth = httpx.BasicAuth("", "" if password is None else password.get_secret_value())
        self._http = http

    async def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> Answer:
        """Return the answer, whatever its status. Raises `TransientError`."""
        try:
            response = await self._http.request(method, self._base + path, data=form, auth=self._auth)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransientError(type(error).__name__) from None
        return Answer(response.status_code, response.content, None)


async def _try_invoice(node: _Node) -> None:
    """Make an invoice, and look it up. Raises `TransientError`."""
    made = read_new_invoice(_good(await node.ask("POST", "/createinvoice", invoice_form(_TRIAL))), _TRIAL)
    read_incoming(_good(await node.ask("GET", f"/payments/incoming/{made.payment_hash}")), made.payment_hash)


def _good(answer: Answer) -> bytes:
    if answer.status != httpx.codes.OK:
        raise TransientError(f"it answers {answer.status}")
    return answer.body


async def _liquidity(node: _Node, settings: Settings) -> _Words:
    """Return warnings about the channel and its cost, and what it can receive. Raises `TransientError`."""
    info = read(_good(await node.ask("GET", "/getinfo")), NodeInfo)
    balance = read(_good(await node.ask("GET", "/getbalance")), Balance)
    cost = await _cost(node)
    warnings = [*_channel_warnings(info.channels, cost), *_credit_warnings(balance)]
    room_sats = sum(channel.inbound_liquidity_sat or 0 for channel in info.channels if channel.state == _NORMAL)
    if info.channels and room_sats < settings.session_max_sats:
        text = (
            f"Its channel has room for {room_sats:,} sats more, less than one deposit may be. Then phoenixd buys room "
            f"and takes the price, about {cost}, from what a client pays; the client is credited the whole. Keep as "
            "much of your own money in the node."
        )
        warnings.append(Problem(URL, text))
    proofs = [
        f"It can receive up to {room_sats:,} sats before it must buy room.",
        f"It can pay out up to {balance.balance_sat:,} sats, less its fee of 0.4 % and 4 sats.",
    ]
    return warnings, proofs if info.channels else []


async def _cost(node: _Node) -> str:
    """Return the price of room in a channel, in words. A node without a connection to its peer can't tell it."""
    path = f"/estimateliquidityfees?amountSat={_AUTO_LIQUIDITY_SATS}"
    try:
        fees = read(_good(await node.ask("GET", path)), LiquidityFees)
    except TransientError:
        return f"1 % of {_AUTO_LIQUIDITY_SATS:,} sats and the mining fee"
    return f"{fees.mining_fee_sat + fees.service_fee_sat:,} sats for room for {_AUTO_LIQUIDITY_SATS:,}"


def _channel_warnings(channels: list[Channel], cost: str) -> list[Problem]:
    if not channels:
        text = (
            f"phoenixd has no channel yet. The first payments buy one, for about {cost}, and no refund can be paid "
            "until then: have the node receive more than that of your own money before you open."
        )
        return [Problem(URL, text)]
    states = sorted({channel.state for channel in channels if channel.state != _NORMAL})
    text = f"Its channel is not ready ({', '.join(states)}): phoenixd neither receives nor pays by it just now."
    return [Problem(URL, text)] if states else []


def _credit_warnings(balance: Balance) -> list[Problem]:
    if not balance.fee_credit_sat:
        return []
    text = (
        f"{balance.fee_credit_sat:,} sats came in as fee credit. They can't be spent and are never paid back; they go "
        "towards the next channel. What is your clients' among them must come from your own money."
    )
    return [Problem(URL, text)]
