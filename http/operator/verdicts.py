"""Verdicts at the top of the operator's page: whether it is solvent, whether money is missing, what is down."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from ...actors.domain.pricing import PriceOrigin
from ...actors.operator.books import OpenPayout
from ...actors.ports import WalletWords
from . import words
from .figures import Figures

# A payout's own call may take as long.
_ON_ITS_WAY_MS: Final = 60_000
_STALE_PRICE_MS: Final = 3_600_000
_PARTS: Final = {"store": "The store", "actors": "The actors", "lightning": "The Lightning node", "model": "The model"}


class Grade(StrEnum):
    """Grades of a verdict."""

    GOOD = "good"
    LOOK = "look"
    BAD = "bad"


class Verdict(NamedTuple):
    """Verdict in a few words, and what it rests on, a sentence each."""

    question: str
    grade: Grade
    answer: str
    because: Sequence[str]


def verdicts(figures: Figures, wallet: WalletWords) -> Sequence[Verdict]:
    """Return the three verdicts."""
    return _solvent(figures), _accounted_for(figures, wallet), _down(figures)


def _solvent(figures: Figures) -> Verdict:
    question, standing = "Is the server solvent?", figures.standing
    if standing is None:
        because = ["The treasury has not compared the wallet with the books for ten minutes."]
        return Verdict(question, Grade.LOOK, "Not known", because)
    held, owed = words.sats(standing.wallet_msat), words.sats(standing.liability_msat)
    because = [f"The wallet holds {held}. {owed} of it belong to clients."]
    if standing.solvent:
        spare = standing.wallet_msat - standing.liability_msat
        return Verdict(question, Grade.GOOD, "Yes", [*because, f"{words.sats(spare)} are yours."])
    missing = words.sats(standing.liability_msat - standing.wallet_msat)
    mend = f"{missing} are missing. New deposits are refused until the wallet is filled; refunds go on."
    return Verdict(question, Grade.BAD, "No", [*because, mend])


def doubtful(payout: OpenPayout, now_ms: int) -> bool:
    """Return whether the outcome of a payout should be known by now, and is not."""
    return payout.under_way and now_ms - payout.since_ms > _ON_ITS_WAY_MS


def _accounted_for(figures: Figures, wallet: WalletWords) -> Verdict:
    question, because, grade = "Is all money accounted for?", [], Grade.GOOD
    findings, payouts = figures.findings, figures.payouts
    if findings is not None and findings.unknown_payouts:
        grade = Grade.BAD
        amount = words.sats(findings.unknown_payouts_msat)
        made = f"The wallet made {findings.unknown_payouts} payments over {amount}"
        because.append(f"{made} that no journal knows: run `satmeter audit`.")
    if findings is not None and findings.long_payouts:
        grade = Grade.BAD
        amount = words.sats(findings.long_payouts_msat)
        because.append(f"{_count(findings.long_payouts, 'payout')} over {amount} stay under way for more than a day.")
    if findings is not None and findings.key_trouble is not None:
        grade = Grade.BAD
        because.append(wallet.troubles.get(findings.key_trouble, "The wallet's keys can't pay refunds."))
    now_ms = int(figures.at.timestamp()) * 1_000
    unclear = [payout for payout in payouts.listed if doubtful(payout, now_ms)] if payouts is not None else []
    failed = [payout for payout in payouts.listed if not payout.under_way and payout.owed_msat] if payouts else []
    if unclear:
        grade = max(grade, Grade.LOOK, key=_weight)
        amount = words.sats(sum(payout.amount_msat for payout in unclear))
        because.append(f"The outcome of {_count(len(unclear), 'payout')} over {amount} is not known yet.")
    if failed:
        grade = max(grade, Grade.LOOK, key=_weight)
        amount = words.sats(sum(payout.owed_msat for payout in failed))
        because.append(f"{_count(len(failed), 'payout')} failed; {amount} stay owed until the clients ask again.")
    if findings is None or payouts is None:
        grade = max(grade, Grade.LOOK, key=_weight)
        because.append("Not all of it can be read just now.")
    answer = {Grade.GOOD: "Yes", Grade.LOOK: "Have a look", Grade.BAD: "No"}[grade]
    return Verdict(question, grade, answer, because or ["Every payout is paid, and the journals know each of them."])


def _down(figures: Figures) -> Verdict:
    because = [f"{_PARTS.get(name, name)} can't be reached." for name in figures.unreachable]
    findings, now_ms = figures.findings, int(figures.at.timestamp()) * 1_000
    for name, word in (figures.upstreams or {}).items():
        if word.outage_at(now_ms) is not None:
            because.append(f"The upstream {name} is away.")
    if findings is not None and findings.store_losses:
        because.append("The store may lose what it confirms.")
    if (partitions := figures.partitions) is not None and partitions.unowned:
        because.append(f"{_count(partitions.unowned, 'partition')} have no host yet.")
    if because:
        return Verdict("Is anything down?", Grade.BAD, "Yes", because)
    price = figures.price
    if price.origin is PriceOrigin.FALLBACK or now_ms - price.at_ms > _STALE_PRICE_MS:
        what = "the fixed one" if price.origin is PriceOrigin.FALLBACK else "more than an hour old"
        return Verdict("Is anything down?", Grade.LOOK, "Have a look", [f"The price of bitcoin is {what}."])
    return Verdict("Is anything down?", Grade.GOOD, "No", ["Store, hosts, Lightning node and models answer."])


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _weight(grade: Grade) -> int:
    return list(Grade).index(grade)
