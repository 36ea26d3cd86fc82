"""Names in other letters than the known ones are refused; all other names pass."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.http.upstreams.letter_case import check_case

KNOWN = frozenset({"max_tokens", "stream"})


@pytest.mark.parametrize("name", ["Max_Tokens", "STREAM", "\u017ftream", "max_to\u212aens"])
def test_a_known_name_in_other_letters_is_refused(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_case({"max_tokens": 1, name: 2}, KNOWN, "at")
    assert caught.value.refusal.details["fields"][0]["path"] == f"at.{name}"


def test_other_names_pass() -> None:
    check_case({"stream": 1, "maxTokens": 2, "X": 3, "": 4, "\ud800": 5}, KNOWN)
