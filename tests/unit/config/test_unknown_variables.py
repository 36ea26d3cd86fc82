"""Names in the environment that mean nothing here, and the names that they were probably meant to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from satmeter.config.unknown_variables import unknown_variables

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SATMETER_PROT", "did you mean SATMETER_PORT?"),
        ("satmeter_prot", "did you mean SATMETER_PORT?"),
        ("SATMETER_RATELIMITS", "did you mean SATMETER_RATE_LIMITS?"),
        ("SATMETER_MARGIN_PERCENT", "did you mean SATMETER_MARGIN_PCT?"),
        ("SATMETER_WALLET_LNBITS_UR", "did you mean SATMETER_WALLET_LNBITS_URL?"),
        ("SATMETER_QQQQ", "remove it"),
        ("LNBITS_INVOCE_KEY", "did you mean LNBITS_INVOICE_KEY?"),
        ("MACAROON_ROOTKEY", "did you mean MACAROON_ROOT_KEY?"),
        ("REDIS_ULR", None),
        ("ANTHROPIC_AUTH_TOKEN", None),
        ("ANTHROPIC_MODEL", None),
        ("LNBITS_ADMIN_UI", None),
        ("LNBITS_DATA_FOLDER", None),
        ("RAY_AUTH_TOKEN", None),
        ("PATH", None),
        ("SATMETER_PORT", None),
        ("satmeter_port", None),
        ("LNBITS_ADMIN_KEY_FILE", None),
        ("SATMETER_WALLET_LNBITS_KEY_FILE", None),
        ("SATMETER_PORT_FILE", "There is no such setting"),
        ("SATMETER_SESSION_FILE", None),
    ],
)
def test_a_name_that_is_probably_mistyped_is_told_with_the_right_one(name: str, words: str | None) -> None:
    found = unknown_variables({name: "value"})
    if words is None:
        assert found == []
    else:
        (problem,) = found
        assert problem.variable == name and words in problem.message


def test_a_variable_that_is_empty_is_as_good_as_not_set() -> None:
    assert unknown_variables({"SATMETER_PROT": ""}) == []


def test_every_name_that_the_program_and_its_documents_use_is_known() -> None:
    files = [path for folder in ("actors", "client", "http", "config", "scripts", "docs", "deploy")
             for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]  # fmt: skip
    used = {
        name
        for path in [*files, ROOT / "README.md"]
        for name in re.findall(r"\bSATMETER_[A-Z][A-Z_]*[A-Z]\b", path.read_text(errors="ignore"))
    }
    assert [problem.variable for problem in unknown_variables(dict.fromkeys(used, "x"))] == []
