"""Redaction: no secret is in a log, and no job's id in full, which is all that a client needs to take the refund."""

from __future__ import annotations

import json
import secrets

import pytest

from satmeter.config.log_redaction import redact


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "macaroon", "depositMacaroon", "preimage", "api_key", "X-Api-Key", "prompt",
        "request", "result", "payment_request", "paymentRequest", "bolt11", "MACAROON_ROOT_KEY", "operator_token",
    ],
)  # fmt: skip
def test_secrets_never_reach_a_log(name: str) -> None:
    entry = redact(None, "info", {"event": "x", name: "SECRET", "deep": [{name: {"er": "SECRET"}}]})
    assert "SECRET" not in json.dumps(entry)
    assert entry["event"] == "x"


@pytest.mark.parametrize("name", ["request_id", "input_tokens", "job_id", "payment_hash", "results"])
def test_what_an_operator_needs_stays_readable(name: str) -> None:
    assert redact(None, "info", {name: "plain"})[name] == "plain"


def test_a_password_inside_an_address_is_taken_out() -> None:
    entry = redact(None, "info", {"event": "no answer from redis://me:SECRET@store:6379/0", "url": "http://a/b"})
    assert entry == {"event": "no answer from redis://[redacted]@store:6379/0", "url": "http://a/b"}
    entry = redact(None, "info", {"event": "at redis+sentinel://a:1/m?sentinel_password=SECRET&ssl=1"})
    assert entry == {"event": "at redis+sentinel://a:1/m?sentinel_password=[redacted]&ssl=1"}


JOB = "job_AbCdEfGhIj-lMnOpQrStUvWxYz012345"


def test_a_job_s_id_is_cut_short_wherever_it_stands() -> None:
    assert len(JOB) == len("job_") + 32
    entry = redact(
        None, "info", {"event": f"no {JOB}", "job_id": JOB, "error": f"KeyError('{JOB}')", "deep": [{JOB: (JOB, 1)}]}
    )
    assert entry["job_id"] == "job_AbCdEfGhIj..." and entry["event"] == "no job_AbCdEfGhIj..."
    assert JOB[14:] not in json.dumps(entry)
    # A session's id opens nothing without its macaroon.
    assert redact(None, "info", {"session_id": f"ses_{JOB[4:]}"}) == {"session_id": f"ses_{JOB[4:]}"}


def test_invoices_and_macaroons_are_taken_out_of_any_text() -> None:
    invoice = f"lnbc10u1p{'q' * 180}"
    macaroon = f"AgEIc2F0bWV0ZXI{secrets.token_urlsafe(80)}"
    entry = redact(None, "info", {"event": "x", "error": f"refused {invoice}: {macaroon}!"})
    assert entry == {"event": "x", "error": "refused [redacted]: [redacted]!"}


def test_numbers_stay_numbers_and_other_values_become_text() -> None:
    entry = redact(None, "info", {"a": 1, "b": 1.5, "c": None, "d": True, "e": ValueError(JOB)})
    assert entry == {"a": 1, "b": 1.5, "c": None, "d": True, "e": "job_AbCdEfGhIj..."}
