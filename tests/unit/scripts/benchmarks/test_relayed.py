"""Arithmetic of the part `relayed` of `scripts/bench`, and the events that its provider sends."""

from __future__ import annotations

import msgspec
import pytest

from satmeter.actors.adapters.anthropic.relay import RelayedStream
from satmeter.actors.domain.pricing import Usage
from satmeter.scripts.benchmarks.cpu import cpu_ms
from satmeter.scripts.benchmarks.options import BenchOptions
from satmeter.scripts.benchmarks.provider import ANSWER, events, events_asked, sent_at_ns
from satmeter.scripts.benchmarks.relayed import add_rows, new_grid
from satmeter.scripts.benchmarks.relayed_streams import Delays, figures
from satmeter.scripts.benchmarks.upstreams import BODY

FIGURES = {"p50_ms": 1.0, "p99_ms": 2.0, "front_ms": 0.5, "hosts_ms": 0.25, "store_ms": 0.125, "all_ms": 1.0}


def test_rates_are_compared_with_the_empty_endpoint_and_the_other_version() -> None:
    grid = new_grid(BenchOptions())
    per_s = {
        "(a) /healthz of this server": 4_000.0,
        "(b) the upstream alone": 8_000.0,
        "(c) relayed": 1_000.0,
        "(d) relayed by the other version": 250.0,
    }
    add_rows(grid, 64, {name: {"per_s": value, **FIGURES} for name, value in per_s.items()})
    assert [(row["of_empty"], row["of_beside"]) for row in grid.rows] == [
        (1.0, None),
        (2.0, None),
        (0.25, 4.0),
        (0.0625, None),
    ]
    assert [row["hosts_ms"] for row in grid.rows] == [0.25, None, 0.25, None]


def test_cpu_is_that_of_each_call_by_process_and_of_all() -> None:
    spent = cpu_ms({"front": 1.0, "hosts": 2.0}, {"front": 2.0, "hosts": 4.0, "raylet": 1.0}, 1_000)
    assert spent == {"front_ms": 1.0, "hosts_ms": 2.0, "store_ms": 0.0, "all_ms": 4.0}


@pytest.mark.parametrize("cut", [1, 7, 50, 1_000])
def test_an_event_counts_once_it_is_whole_however_it_is_cut(cut: int) -> None:
    sent, delays = b"".join(events(3)), Delays()
    at_ns = sent_at_ns(sent)
    found = [delays.take(5, sent[at : at + cut], max(at_ns) + 2_000_000) for at in range(0, len(sent), cut)]
    assert sum(found) == len(at_ns) == 3
    assert min(delays.delays_ms) == 2.0


def test_the_provider_s_answers_are_read_as_messages() -> None:
    stream = RelayedStream()
    for piece in events(3):
        stream.read(piece)
    end = stream.end({})
    assert stream.ended and end.usage == Usage(20, 3)
    assert msgspec.json.decode(ANSWER)["usage"] == {"input_tokens": 20, "output_tokens": 8}


def test_a_call_is_streamed_when_it_asks_for_it() -> None:
    assert events_asked(msgspec.json.encode({**BODY, "stream": True, "max_tokens": 7})) == 7
    assert events_asked(msgspec.json.encode(BODY)) is None


def test_an_event_s_cpu_is_the_server_s_without_that_of_upstream_and_client() -> None:
    spent_s = {"front": 0.01, "hosts": 0.02, "others": 0.01, "upstream": 0.04, "client": 0.02}
    row = figures([1.0] * 1_000, 2.0, 500.0, spent_s)
    assert row == [500.0, 500.0, 1.0, 1.0, 10.0, 20.0, 40.0, 40.0, 20.0, 0.05, "yes"]
    assert figures([1.0] * 1_000, 2.0, 600.0, spent_s)[-1] == "no"


def test_the_upstream_alone_has_no_server_s_cpu() -> None:
    assert figures([1.0], 1.0, 1.0, {"upstream": 0.0, "client": 0.0})[4:7] == [None, None, None]
