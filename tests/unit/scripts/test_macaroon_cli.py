from __future__ import annotations

import pytest
from typer.testing import CliRunner

from satmeter.actors.domain.credentials.macaroon import MacaroonId, attenuate, mint, session_id, verify
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.money import Msat
from satmeter.scripts.commands import app

KEY = bytes(32)
ID = MacaroonId("ab" * 32, session_id(bytes(24)), generation=1)
RUNNER = CliRunner()


def test_a_narrowed_macaroon_is_accepted_by_its_server_with_its_limits() -> None:
    result = RUNNER.invoke(app, ["macaroon", "attenuate", mint(KEY, ID), "max_msat = 500", "name = helper"])
    assert result.exit_code == 0
    macaroon_id, grant = verify(KEY, result.stdout.strip())
    assert macaroon_id == ID
    assert grant.spend_limits[0].limit_msat == Msat(500)
    assert grant.spender == "helper"


def test_a_budget_that_renews_is_appended_by_an_option_and_shown() -> None:
    token = mint(KEY, ID)
    result = RUNNER.invoke(app, ["macaroon", "attenuate", token, "--max-msat-per", "50000/day", "name = helper"])
    by_caveat = RUNNER.invoke(app, ["macaroon", "attenuate", token, "name = helper", "max_msat_per = 50000/day"])
    assert result.stdout == by_caveat.stdout
    (limit,) = verify(KEY, result.stdout.strip())[1].spend_limits
    assert (limit.limit_msat, limit.period) == (Msat(50_000), Period.DAY)
    shown = RUNNER.invoke(app, ["macaroon", "inspect", result.stdout.strip()]).stdout
    assert "max_msat_per = 50000/day" in shown and "unknown" not in shown


def test_it_can_be_read_from_standard_input() -> None:
    result = RUNNER.invoke(app, ["macaroon", "attenuate", "-", "actions = read"], input=f"{mint(KEY, ID)}\n")
    assert verify(KEY, result.stdout.strip())[1].actions == {"read"}


def test_inspecting_shows_session_and_caveats() -> None:
    narrowed = RUNNER.invoke(app, ["macaroon", "attenuate", mint(KEY, ID), "expires_at = 1800000000"]).stdout.strip()
    shown = RUNNER.invoke(app, ["macaroon", "inspect", narrowed]).stdout
    assert ID.session_id in shown and ID.payment_hash in shown
    assert "expires_at = 1800000000" in shown and "2027-01-15 08:00:00 UTC" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "garbage"],
        ["attenuate", "garbage", "max_msat = 5"],
        ["attenuate", mint(KEY, ID), "max_sats = 5"],
        ["attenuate", mint(KEY, ID), "actions = "],
        ["attenuate", mint(KEY, ID)],
        ["attenuate", mint(KEY, ID), "--max-msat-per", "50000"],
        ["attenuate", mint(KEY, ID), "--max-msat-per", "50000/month"],
        ["attenuate", mint(KEY, ID), "actions = read\n"],
        ["attenuate", mint(KEY, ID), "name = caf\udce9"],
        ["attenuate", mint(KEY, ID), "max_msat = ٣"],
        ["attenuate", mint(KEY, ID), *[f"max_msat = {msat}" for msat in range(9, 0, -1)]],
        ["attenuate", mint(KEY, ID), *["name = x"] * 65],
        ["attenuate", attenuate(mint(KEY, ID), ["max_sats = 5"]), "name = x"],
        ["inspect", attenuate(mint(KEY, ID), ["name = x"] * 65)],
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_without_a_traceback(arguments: list[str]) -> None:
    result = RUNNER.invoke(app, ["macaroon", *arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("caveats", "allows"),
    [
        ([], "request, read, topup, close, llm"),
        (["max_msat = 0", "name = x"], "request, read, topup, close, llm"),
        (["actions = llm,read", "actions = read , topup"], "read"),
        (["actions = read", "actions = topup", "actions = close"], "nothing: its lists of actions have none in common"),
        (["max_sats = 5"], "nothing: This credential has a caveat that is not known here."),
    ],
)
def test_inspecting_tells_what_all_caveats_together_leave(caveats: list[str], allows: str) -> None:
    shown = RUNNER.invoke(app, ["macaroon", "inspect", attenuate(mint(KEY, ID), caveats)]).stdout
    assert shown.rstrip().endswith(allows) and "allows" in shown
