"""The page on Lightning nodes: its commands are right, word for word."""

from __future__ import annotations

import re
from pathlib import Path

from satmeter.actors.adapters.lnd.rights import NEEDED

PAGE = Path(__file__).parents[2] / "docs" / "lightning.md"


def test_the_macaroon_that_the_page_bakes_may_do_just_what_the_client_does() -> None:
    """The contract of all backends is held with such a macaroon, by a stand-in that refuses all else."""
    (command,) = re.findall(r"lncli bakemacaroon [^`]*", PAGE.read_text())
    assert sorted(re.findall(r"uri:(\S+)", command)) == sorted(NEEDED)
    assert not re.search(r"\s[a-z]+:(read|write|generate)\b", command)
