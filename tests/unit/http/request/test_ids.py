"""Ids: unguessable, and the same for the same key."""

from __future__ import annotations

import pytest

from satmeter.http.request import ids
from satmeter.http.request_id import new_request_id

KEY = b"a key of a test"


def test_ids_look_as_promised_and_never_repeat() -> None:
    made = {ids.new_job_id() for _ in range(100)}
    assert len(made) == 100 and all(ids.is_job_id(job_id) for job_id in made)
    assert new_request_id().startswith("req_") and ids.new_demo_id().startswith("demo_")


def test_a_key_leads_to_the_same_job_always() -> None:
    job_id = ids.job_id_of(KEY, "anna", "one")
    # Written down: with another derivation, keys from before an update would lead to new invoices.
    assert job_id == "job_BmIA-RWeiJhxBq8JyMe6_7nI8y7sIBe6"
    assert ids.is_job_id(job_id)


@pytest.mark.parametrize(
    ("key", "client", "idempotency_key"), [(b"x", "anna", "one"), (KEY, "ben", "one"), (KEY, "anna", "two")]
)
def test_another_secret_client_or_key_leads_elsewhere(key: bytes, client: str, idempotency_key: str) -> None:
    assert ids.job_id_of(key, client, idempotency_key) != ids.job_id_of(KEY, "anna", "one")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job_",
        "job_" + "a" * 31,
        "job_" + "a" * 33,
        "job_" + "a" * 31 + "\n",
        "job_" + "a" * 32 + "\n",
        "JOB_" + "a" * 32,
        "job_" + "é" * 32,
        "job_" + "/" * 32,
    ],
)
def test_what_can_t_be_a_job_s_id_is_not_taken_for_one(text: str) -> None:
    assert not ids.is_job_id(text)


def test_a_key_leads_to_the_same_session_always_and_to_no_job() -> None:
    session_id = ids.session_id_of(KEY, "anna", "one")
    # Written down, as the job's above.
    assert session_id == "ses_H0jpjrfkFXrQnOrvro2dUgxxjGESrJhn"
    assert ids.is_session_id(session_id) and ids.is_session_id(ids.new_session_id())
    assert session_id[4:] != ids.job_id_of(KEY, "anna", "one")[4:]
    assert not ids.is_session_id(f"job_{'a' * 32}") and not ids.is_session_id(f"{session_id}\n")
