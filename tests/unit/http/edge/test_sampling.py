"""Sampling of log lines."""

from __future__ import annotations

from satmeter.http.edge.sampling import Sample


def test_a_flood_of_lines_is_counted_instead_of_written() -> None:
    sample = Sample()
    written = [sample.fields(0.0) for _ in range(1_000)]
    assert [fields for fields in written if fields is not None] == [{}] * 20
    assert sample.fields(1.0) == {"left_out": 980}
    assert sample.fields(2.0) == {}
