"""The arithmetic of `scripts/bench`: what it measures is not tested, what it makes of it is."""

from __future__ import annotations

import os
import resource

import msgspec
import pytest
from rich.console import Console

from satmeter.scripts.benchmarks import main
from satmeter.scripts.benchmarks.grid import Column, Grid, Report, encode, medians, percentile, ratio, shown
from satmeter.scripts.benchmarks.journal import by_kind
from satmeter.scripts.benchmarks.kills import by_fate
from satmeter.scripts.benchmarks.options import BenchOptions
from satmeter.scripts.benchmarks.servers import BenchError, clean_environment
from satmeter.scripts.benchmarks.table import COALESCED, EMPTY, LOCAL, add_rows, new_grid
from satmeter.scripts.benchmarks.waiting import Stage, SteadyRecorder, allow_files, long_rate


def stage(rate_per_s: float, answered_per_s: float, failed: int = 0) -> Stage:
    return Stage(
        model_s=1.0,
        rate_per_s=rate_per_s,
        answered_per_s=answered_per_s,
        in_flight=rate_per_s,
        in_flight_max=round(rate_per_s),
        added_p50_ms=1.0,
        added_p99_ms=2.0,
        failed=failed,
        late=0,
    )


def test_a_median_is_taken_of_each_figure_by_itself() -> None:
    rounds = [{"per_s": 10.0, "p50_ms": 3.0}, {"per_s": 30.0, "p50_ms": 1.0}, {"per_s": 20.0, "p50_ms": 9.0}]
    assert medians(rounds) == {"per_s": 20.0, "p50_ms": 3.0}


def test_there_is_no_median_of_no_rounds() -> None:
    with pytest.raises(ValueError, match="nothing"):
        medians([])


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (99.1, 100), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_there_is_no_percentile_of_nothing_and_no_ratio_to_nothing() -> None:
    assert percentile([], 50) is None
    assert ratio(3, 0) is None
    assert ratio(3, 2) == 1.5


def test_ratios_of_the_table_are_to_the_ways_beside_them() -> None:
    grid = new_grid(BenchOptions())
    per_s = {EMPTY: 5_000.0, LOCAL: 2_000.0, COALESCED: 1_500.0}
    add_rows(grid, 64, {name: {"per_s": value, "p50_ms": 1.0, "p99_ms": 2.0} for name, value in per_s.items()})
    of = {row["what"]: (row["of_empty"], row["of_local"]) for row in grid.rows}
    assert of == {
        EMPTY: (1.0, None),
        LOCAL: (0.4, None),
        COALESCED: (0.3, 0.75),
    }
    assert {row["connections"] for row in grid.rows} == {64}


def test_a_row_must_fit_its_columns() -> None:
    grid = Grid(title="t", columns=(Column("a", "A"), Column("b", "B")))
    with pytest.raises(ValueError, match="shorter"):
        grid.add(1)


def test_figures_are_shown_with_their_decimals_and_what_is_missing_as_a_hyphen() -> None:
    assert [shown(12_345.678, 1), shown(0.5, 2), shown("x", 1), shown(None, 3)] == ["12,345.7", "0.50", "x", "-"]


def test_a_grid_is_printed_with_title_headings_and_note() -> None:
    grid = Grid(title="Some figures", columns=(Column("what", "what"), Column("ms", "p50 ms", 1)), note="A note.")
    grid.add("fast", 1.25)
    console = Console(width=80)
    with console.capture() as captured:
        grid.show(console)
    for text in ("Some figures", "p50 ms", "fast", "1.2", "A note."):
        assert text in captured.get()


def test_the_json_holds_figures_unrounded_by_the_names_of_their_columns() -> None:
    grid = Grid(title="t", columns=(Column("what", "what"), Column("p50_ms", "p50 ms")))
    grid.add("fast", 1.25)
    report = Report(started_at="2030-01-01T00:00:00Z", machine={"cpus": 2}, options={"rounds": 3}, parts={"x": [grid]})
    assert msgspec.json.decode(encode(report))["parts"]["x"][0]["rows"] == [{"what": "fast", "p50_ms": 1.25}]


def test_events_are_counted_by_what_their_tags_say() -> None:
    events = [b'{"type":"hold_placed"}', b'{"type":"request_finished","a":1}', b'{"type":"hold_placed","b":2}']
    assert by_kind(events) == {"hold_placed": [22, 28], "request_finished": [33]}


def test_the_killed_host_is_the_one_whose_sessions_waited() -> None:
    assert by_fate({"host-0": [0.1, 9.0, 0.2], "host-1": [2.0, 3.0]}) == ([2.0, 3.0], [0.1, 9.0, 0.2])


def test_which_host_was_killed_can_not_be_told_of_one() -> None:
    with pytest.raises(BenchError, match="1 hosts"):
        by_fate({"host-0": [1.0]})


def test_a_rate_is_sustained_when_nothing_failed_and_the_answers_keep_up() -> None:
    assert stage(1_000, 985).sustained
    assert not stage(1_000, 970).sustained
    assert not stage(1_000, 1_000, failed=1).sustained


def test_the_slow_model_is_asked_at_the_highest_rate_that_was_sustained_up_to_a_thousand() -> None:
    assert long_rate([stage(500, 500), stage(700, 700), stage(900, 100)], 500) == 700
    assert long_rate([stage(500, 500), stage(2_000, 2_000)], 500) == 1_000
    assert long_rate([stage(500, 100)], 500) == 500


def test_what_was_due_or_answered_during_the_ramp_is_left_out() -> None:
    recorder = SteadyRecorder(ramp_s=2.0, duration_s=10.0)
    recorder.answer(1.5, 2.5, None)
    recorder.answer(3.0, 4.25, None)
    recorder.answer(9.5, 10.5, None)
    assert recorder.latencies_s == [1.25, 1.0]
    assert recorder.answered_in_time == 2
    assert recorder.answered == 3


def test_the_limit_of_open_files_is_raised_as_far_as_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1_024, 20_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    allow_files(10_000)
    assert limits[-1] == (10_256, 20_000)
    allow_files(500)
    assert limits[-1] == (10_256, 20_000)
    with pytest.raises(BenchError, match=r"needs 30256 open files, and may have 20000: raise the limit"):
        allow_files(30_000)


def test_a_quick_run_measures_everything_with_less() -> None:
    full = BenchOptions.of(quick=False, duration_s=None, rounds=None)
    quick = BenchOptions.of(quick=True, duration_s=None, rounds=None)
    assert (full.passivated, full.waiting, full.rounds, full.duration_s) == (100_000, 5_000, 3, 5.0)
    assert (quick.passivated, quick.rounds, quick.duration_s) == (5_000, 1, 1.0)
    assert BenchOptions.of(quick=True, duration_s=3.0, rounds=2).duration_s == 3.0


def test_parts_are_chosen_by_name_and_measured_in_their_order() -> None:
    assert list(main.chosen("cold, table")) == ["table", "cold"]
    assert list(main.chosen(None)) == list(main.PARTS)
    assert list(main.chosen("relayed,table")) == ["table", "relayed-whole", "relayed-streams", "relayed-waiting"]
    assert list(main.chosen("relayed-waiting")) == ["relayed-waiting"]
    for wrong in ("tables", "", "table,nothing", "waiting-long"):
        with pytest.raises(ValueError, match="must be of table, openings"):
            main.chosen(wrong)


def test_a_failure_is_told_by_its_first_reason() -> None:
    assert main.why(ExceptionGroup("many", [BenchError("no host"), OSError("x")])) == "no host"
    assert main.why(OSError("gone")) == "OSError: gone"


def test_settings_of_the_shell_do_not_reach_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SATMETER_MARGIN_PCT", "LNBITS_URL", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "MACAROON_ROOT_KEY"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("SATMETER_BENCH_OTHER", "kept")
    environment = dict(os.environ)
    monkeypatch.setattr("os.environ", environment)
    clean_environment()
    assert "theirs" not in environment.values()
    assert environment["SATMETER_BENCH_OTHER"] == "kept"
