"""The flags of `satmeter load`: what does not fit is said before anything is sent; and what it writes is documented."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from satmeter.scripts.commands import app
from satmeter.scripts.load import load_test as load_module
from satmeter.scripts.load.check import Books
from satmeter.scripts.load.opening import KeptFile
from satmeter.scripts.load.options import LoadError, Options
from satmeter.scripts.load.refund import Refunds
from satmeter.scripts.load.report import Failures, Lateness, Percentiles, Plan, Point, Report, Retries

ROOT = Path(__file__).parents[4]
LNBITS = ("--lnbits-url", "http://127.0.0.1:1", "--deposit", "100")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Return the options of the run."""
    options: list[Options] = []

    def run(given: Options) -> int:
        options.append(given)
        return 7

    monkeypatch.setattr(load_module, "run", run)
    monkeypatch.delenv("SATMETER_LOAD_ADMIN_KEY", raising=False)
    return options


def _load(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["load", *words])
    return result.exit_code, result.stderr


def test_without_flags_it_is_a_small_open_loop_at_the_default_address(asked: list[Options]) -> None:
    assert _load() == (7, "")
    (options,) = asked
    assert options == Options("http://127.0.0.1:8402")
    assert (options.rate_per_s, options.think_s, options.in_flight_max) == (50.0, None, 1_000)


def test_thinking_replaces_the_rate_and_gives_each_session_its_place(asked: list[Options]) -> None:
    assert _load("http://[::1]:1", "--think", "0", "--sessions", "3000")[0] == 7
    assert (asked[0].rate_per_s, asked[0].think_s, asked[0].in_flight_max) == (None, 0.0, 3_000)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "5", "--think", "1"), "one of them"),
        (("ftp://example.org",), "is not an address"),
        (("http://example.org:x",), "is not an address"),
        (("http://127.0.0.1:1/?a=b",), "leave out"),
        (("--request", " \n"), "blank"),
        (("--rate", "50000", "--duration", "86400"), "lower --rate or --duration"),
        (("--no-refund",), "goes with --lnbits-url"),
        (LNBITS, "SATMETER_LOAD_ADMIN_KEY"),
        (("--plot", "/nowhere/plot.svg"), "can't be written"),
        (("--json", "/"), "can't be written"),
        (("--sessions", "0"), "--sessions"),
        (("--rate", "0"), "--rate"),
        (("--duration", "1e9"), "--duration"),
    ],
)
def test_flags_that_do_not_fit_are_told_with_status_2(words: tuple[str, ...], said: str, asked: list[Options]) -> None:
    status, err = _load(*words)
    assert status == 2 and said in err
    assert asked == []


def test_real_sats_are_only_spent_as_far_as_said(asked: list[Options], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATMETER_LOAD_ADMIN_KEY", "the-wallet-s-key")
    assert "by --deposit" in _load("--lnbits-url", "http://127.0.0.1:1")[1]
    assert "in the clear" in _load("--lnbits-url", "http://lnbits.example", "--deposit", "100")[1]
    assert "add --keep FILE" in _load(*LNBITS, "--no-refund")[1]
    assert _load(*LNBITS)[0] == 7
    assert asked[0].admin_key == "the-wallet-s-key" and asked[0].refund
    assert "the-wallet-s-key" not in repr(asked[0])
    monkeypatch.setenv("SATMETER_LOAD_ADMIN_KEY", "key\r\nX-Evil: 1")
    status, err = _load(*LNBITS)
    assert status == 2 and "Evil" not in err


def test_a_file_with_macaroons_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("of another test")
    with pytest.raises(LoadError, match="name another file"):
        KeptFile(path)
    assert path.read_text() == "of another test"


def test_every_field_of_the_json_is_documented() -> None:
    words = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "load.md").read_text()))
    for kind in (Report, Plan, Percentiles, Failures, Retries, Lateness, Books, Refunds, Point):
        assert {field.name for field in msgspec.structs.fields(kind)} <= words
