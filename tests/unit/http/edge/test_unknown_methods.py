"""Methods that the parser does not know."""

from __future__ import annotations

import pytest

from satmeter.http.edge.unknown_methods import readable


@pytest.mark.parametrize("method", [b"FOO", b"X", b"BASELINE-CONTROL", b"M_1", b"\r\n\r\nFOO"])
def test_a_method_that_no_path_takes_stands_in(method: bytes) -> None:
    assert readable(method + b" /jobs HTTP/1.1\r\n\r\n") == b"PROPFIND /jobs HTTP/1.1\r\n\r\n"
    assert readable(method + b" * HT") == b"PROPFIND * HT"


@pytest.mark.parametrize(
    "data", [b"", b"FOO", b"FOO ", b"Foo /", b"get /", b"PROPFIND /", b"A" * 33 + b" /", b"\x16 /"]
)
def test_what_is_no_request_is_left(data: bytes) -> None:
    assert readable(data) is None
