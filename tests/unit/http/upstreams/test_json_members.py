"""Outermost members of a body, with their places."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.http.upstreams.json_members import byte_offset, read_members


def test_a_member_has_its_value_and_its_place() -> None:
    data = ' { "é" : [1, {"a": 2}] ,\n"b":"\\u00e9" } '.encode()
    text, members = read_members(data)
    assert {name: member.value for name, member in members.items()} == {"é": [1, {"a": 2}], "b": "é"}
    begin, end = (byte_offset(text, at) for at in (members["b"].start, members["b"].end))
    assert data[begin:end] == b'"\\u00e9"'


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"a":1}x', b'{"a":NaN}', b"\xff", b'{"a":1,"a":1}', b'{"a":{"b":1,"b":1}}', b"{,}"]
)
def test_a_body_that_two_readers_may_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        read_members(data)
