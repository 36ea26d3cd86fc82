"""Findings as operators see them: payouts that no journal tells, keys that can't pay, a store that may lose writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace as replace_findings
from redis.asyncio import Redis

from satmeter.actors.bootstrap import build_wallet_words
from satmeter.actors.ports import Findings, Refusals
from satmeter.config.settings import Environment, Settings
from satmeter.http.app import create_app
from tests.helpers.http.fronts import AS_OPERATOR, Api, api_over, client_of

AT_MS = 1_800_000_000_000
LNBITS_WORDS = build_wallet_words(Settings.model_validate({"LNBITS_URL": "http://127.0.0.1:1"}))
WELL = Findings(AT_MS, compared_payouts=12, compared_since_ms=AT_MS)


@dataclass
class Watched:
    """Log entries of the treasury."""

    known: tuple[Findings | None, Refusals] = (None, Refusals())

    async def current(self) -> tuple[Findings | None, Refusals]:
        return self.known


@dataclass
class Seen:
    """A front with findings."""

    api: Api
    watched: Watched = field(default_factory=Watched)

    async def ready(self, findings: Findings | None, refusals: Refusals | None = None, **settings: Any) -> Any:
        self.watched.known = findings, refusals or Refusals()
        state = self.api.state
        changed = state.settings.model_copy(update=settings)
        app = create_app(replace(state, findings=self.watched, settings=changed, wallet=LNBITS_WORDS))
        async with client_of(app) as http:
            return await http.get("/readyz"), (await http.get("/metrics", headers=AS_OPERATOR)).text.splitlines()


@pytest_asyncio.fixture
async def seen(redis: Redis) -> AsyncIterator[Seen]:
    async with api_over(redis) as api:
        yield Seen(api)


async def test_without_a_watch_nothing_is_claimed(seen: Seen) -> None:
    answer, metrics = await seen.ready(None)
    assert answer.status_code == 200 and answer.json().keys() == {"status", "checks"}
    assert "satmeter_unknown_payouts NaN" in metrics


async def test_what_is_well_is_shown_with_what_was_compared(seen: Seen) -> None:
    answer, metrics = await seen.ready(WELL)
    assert answer.json()["payouts"] == {
        "unknownCount": 0,
        "unknownMsat": 0,
        "comparedCount": 12,
        "comparedSince": "2027-01-15T08:00:00.000Z",
        "refusedCount": 0,
    }
    assert "warnings" not in answer.json()
    for line in ("satmeter_unknown_payouts 0.0", "satmeter_payout_keys_ok 1.0", "satmeter_store_durable 1.0"):
        assert line in metrics


async def test_payments_that_no_journal_tells_are_counted_and_the_server_goes_on(seen: Seen) -> None:
    answer, metrics = await seen.ready(Findings(AT_MS, 2, 1_800_000, 12, AT_MS))
    assert answer.status_code == 200 and answer.json()["status"] == "ready"
    payouts = answer.json()["payouts"]
    assert (payouts["unknownCount"], payouts["unknownMsat"]) == (2, 1_800_000)
    (warning,) = answer.json()["warnings"]
    assert "1800000 msat" in warning and "satmeter audit" in warning
    assert "satmeter_unknown_payouts 2.0" in metrics and "satmeter_unknown_payouts_msat 1.8e+06" in metrics


async def test_a_payout_that_stays_pending_is_told_with_its_age_and_without_ids(seen: Seen) -> None:
    long = replace_findings(WELL, long_payouts=2, long_payouts_msat=1_800_000, long_payouts_since_ms=AT_MS - 90_000_000)
    answer, metrics = await seen.ready(long)
    assert answer.status_code == 200 and answer.json()["status"] == "ready"
    assert "satmeter_long_payouts 2.0" in metrics
    payouts = answer.json()["payouts"]
    assert (payouts["longPendingCount"], payouts["longPendingMsat"]) == (2, 1_800_000)
    assert payouts["longPendingSince"] == "2027-01-14T07:00:00.000Z"
    (warning,) = answer.json()["warnings"]
    assert "2 payouts" in warning and "2027-01-14T07:00:00.000Z" in warning and "satmeter audit" in warning


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("invoice_key_unknown", "LNBITS_INVOICE_KEY"),
        ("admin_key_unknown", "LNBITS_ADMIN_KEY"),
        ("admin_key_missing", "not set"),
        ("no_admin_key", "an invoice key"),
        ("two_wallets", "another wallet"),
    ],
)
async def test_keys_that_can_t_pay_are_told(seen: Seen, trouble: str, words: str) -> None:
    answer, metrics = await seen.ready(Findings(AT_MS, key_trouble=trouble))
    assert answer.status_code == 200 and words in answer.json()["payouts"]["trouble"]
    assert answer.json()["warnings"] == [answer.json()["payouts"]["trouble"]]
    assert "satmeter_payout_keys_ok 0.0" in metrics


async def test_an_lnbits_that_is_too_old_is_told_and_is_not_ready(seen: Seen) -> None:
    answer, _ = await seen.ready(Findings(AT_MS, key_trouble="too_old"))
    assert answer.status_code == 503 and answer.json()["unreachable"] == ["lightning"]
    assert "older than 1.0" in answer.json()["error"] and "upgrade" in answer.json()["warnings"][0]
    answer, _ = await seen.ready(WELL)
    assert answer.status_code == 200


async def test_refused_payouts_are_counted_by_their_reason(seen: Seen) -> None:
    answer, metrics = await seen.ready(WELL, Refusals({"key": 2, "funds": 1}, "funds"))
    payouts = answer.json()["payouts"]
    assert payouts["refusedCount"] == 3 and "too little" in payouts["trouble"]
    for line in ('key"} 2.0', 'funds"} 1.0', 'rules"} 0.0'):
        assert any(shown.startswith("satmeter_payouts_refused{") and shown.endswith(line) for shown in metrics)
    # An hour later the count stays, and nothing is amiss any more.
    answer, _ = await seen.ready(WELL, Refusals({"key": 2, "funds": 1}))
    assert "trouble" not in answer.json()["payouts"] and "warnings" not in answer.json()


async def test_a_store_that_was_changed_at_run_time_is_told_and_production_is_not_ready(seen: Seen) -> None:
    losing = Findings(AT_MS, store_losses={"": "no-file"})
    answer, metrics = await seen.ready(losing)
    assert answer.status_code == 200 and "no-file" in answer.json()["warnings"][0]
    assert "satmeter_store_durable 0.0" in metrics
    answer, _ = await seen.ready(losing, env=Environment.PRODUCTION)
    assert answer.status_code == 503 and answer.json()["unreachable"] == ["store"]
    assert "may lose what it confirms (no-file)" in answer.json()["error"]
    # What was paid by mistake is told all the same.
    answer, _ = await seen.ready(Findings(AT_MS, 1, 900_000, 1, store_losses={"": "no"}), env=Environment.PRODUCTION)
    assert answer.status_code == 503 and answer.json()["payouts"]["unknownMsat"] == 900_000
    assert "900000 msat" in answer.json()["warnings"][0]
