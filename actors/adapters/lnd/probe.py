"""Probe of LND before money moves: its certificate, the macaroon's rights, what can come in, and a test invoice."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx

from ....config.held_secrets import held
from ....config.problem import Problem
from ....config.settings import Settings
from ...domain.money import Msat
from ...domain.payments.payouts import PayoutStatus, PayoutTarget
from ...ports import InvoiceOrder, PortError
from ..lightning.backend import Probed
from .client import LndLightning
from .rights import MacaroonTrouble, caveats_of, rights_of, surplus
from .tls import trust

URL: Final = "LND_REST_URL"
MACAROON: Final = "LND_MACAROON"
CERT_FILE: Final = "LND_TLS_CERT_FILE"

_BAKE: Final = "bake one as docs/lightning.md says."
_FAULTS: Final[Mapping[str, str]] = {
    MacaroonTrouble.UNREADABLE: "is not a macaroon of LND's",
    MacaroonTrouble.REFUSED: "is refused by LND, as it is another node's or no longer valid",
    MacaroonTrouble.NO_INVOICES: "does not allow to make and look up invoices",
    MacaroonTrouble.NO_PAYOUTS: "does not allow payments, so no refund can be paid",
    MacaroonTrouble.NO_STATE: "does not allow to ask for the node's state and balance",
}
TROUBLES: Final[Mapping[str, str]] = {code: f"{MACAROON} {words}." for code, words in _FAULTS.items()}
"""Sentence for each fault of the macaroon."""

_TIMEOUT_S: Final = 5.0
_CERTIFICATE_EXPIRED: Final = 10
_OTHER_NAME: Final = (62, 64)
# It is never shown to a client, and lapses. Its description names no actor.
_TEST_INVOICE: Final = InvoiceOrder(1, "Satmeter: can an invoice be made?", 60, "check")


class _TestKey:
    """Key of the test invoice alone, which belongs to no actor."""

    async def read(self) -> bytes:
        return bytes(32)

    async def made(self) -> bytes:
        return bytes(32)


async def probe(settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Probed:
    """Return what is wrong with LND and our access to it. `http` is not used: it does not trust the certificate."""
    url, macaroon = str(settings.lnd_rest_url), bytes.fromhex(held(settings.lnd_macaroon) or "")
    try:
        verify = trust(settings.lnd_tls_cert_file)
    except OSError:
        return Probed([Problem(CERT_FILE, "No certificate can be read there: set the path of LND's tls.cert.")])
    problem = await _connection_problem(url, verify)
    if problem is not None:
        return Probed([problem])
    lightning = LndLightning(url, macaroon, _TestKey(), verify=verify, timeout_s=_TIMEOUT_S, concurrency=2)
    try:
        return await _probed(lightning, macaroon, settings, may_order=may_order)
    except PortError as error:
        return Probed([Problem(URL, f"LND does not do what it was asked ({error}): look at its log.")])
    finally:
        await lightning.close()


async def _probed(lightning: LndLightning, macaroon: bytes, settings: Settings, *, may_order: bool) -> Probed:
    trouble = await lightning.trouble()
    if trouble is not None:
        return Probed([Problem(MACAROON, f"It {_FAULTS[trouble]}: {_BAKE}")])
    problems, warnings, proofs = [], [], []
    too_many = surplus(rights_of(macaroon))
    if too_many:
        text = f"It allows more than is needed ({', '.join(too_many)}): {_BAKE}"
        warnings.append(Problem(MACAROON, text))
    caveats = caveats_of(macaroon)
    if caveats:
        text = f"It ends with a caveat ({', '.join(caveats)}), and so do invoices and refunds: bake one without."
        warnings.append(Problem(MACAROON, text))
    if not warnings:
        proofs.append("The macaroon allows to make invoices, look them up and pay, and nothing else.")
    if not (await lightning.info()).synced_to_chain:
        problems.append(Problem(URL, "LND is not in step with the chain yet, and may miss payments: wait for it."))
    receivable = await lightning.receivable()
    proofs.append(f"It can receive up to {receivable.whole_sats:,} sats.")
    proofs.append(f"It can pay out up to {(await lightning.balance()).whole_sats:,} sats.")
    if receivable < Msat.from_sats(settings.session_min_sats):
        text = "The other side of its channels holds too little for any deposit: get channels that others open to you."
        problems.append(Problem(URL, text))
    elif receivable < Msat.from_sats(settings.session_max_sats):
        text = "Less can come in than the largest deposit, which is SATMETER_SESSION_MAX_SATS: get more channels."
        warnings.append(Problem(URL, text))
    if may_order:
        tested = await _test_invoice(lightning)
        problems += tested.problems
        proofs += tested.proofs
    return Probed(problems, warnings, proofs)


async def _test_invoice(lightning: LndLightning) -> Probed:
    """Make an invoice and look it up, as an invoice and as a payment. Raises `PortError`."""
    made = await lightning.create_invoice(_TEST_INVOICE)
    amount_msat = Msat.from_sats(made.amount_sats)
    payout = await lightning.payout(PayoutTarget(made.payment_request, made.payment_hash, amount_msat), "")
    await lightning.settlements(1)
    await lightning.sent(1)
    if payout.status is not PayoutStatus.ABSENT or not await lightning.knows(made.payment_hash):
        return Probed([Problem(URL, "LND does not find an invoice that it has just made: look at its log.")])
    return Probed(proofs=[f"A test invoice over {made.amount_sats} sat was made and found again."])


async def _connection_problem(url: str, verify: ssl.SSLContext | bool) -> Problem | None:
    """Connect without the macaroon, and return why that fails."""
    split = urlsplit(url)
    is_tls = split.scheme == "https"
    context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                split.hostname, split.port or (443 if is_tls else 80), ssl=context if is_tls else None
            )
    except ssl.SSLCertVerificationError as error:
        return _certificate_problem(error.verify_code, is_pinned=isinstance(verify, ssl.SSLContext))
    except ssl.SSLError:
        return Problem(URL, "What answers there does not speak TLS as LND does: look whether the port is that of REST.")
    except (OSError, ValueError):
        return Problem(URL, "LND does not answer: start it, set `restlisten` in lnd.conf, or mend the address.")
    writer.close()
    return None


def _certificate_problem(verify_code: int, *, is_pinned: bool) -> Problem:
    if verify_code in _OTHER_NAME:
        text = "LND's certificate does not hold this name: add it as `tlsextradomain` or `tlsextraip` in lnd.conf."
        return Problem(URL, text)
    if verify_code == _CERTIFICATE_EXPIRED:
        return Problem(CERT_FILE, "LND's certificate has expired: set `tlsautorefresh=1` in lnd.conf and restart it.")
    if is_pinned:
        return Problem(CERT_FILE, "The LND that answers has another certificate: copy its tls.cert again.")
    return Problem(CERT_FILE, "No authority known to this machine signed LND's certificate: set the path of tls.cert.")
