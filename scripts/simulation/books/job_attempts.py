"""Attempts of one job, as its journal and the model report them: an outage must not use them up."""

from __future__ import annotations

from ..settings import JOB_TERMS
from .sessions import Json, must


class AttemptBook:
    """Book of the step that a job is at.

    What an invoice paid for waits for the model while that invoice lives.
    """

    def __init__(self) -> None:
        self._invoice_ends_ms = 0
        self._refused = False
        self._failed = False
        self._used_up_by_outages = 0
        self._in_vain: set[int] = set()
        self._begin(0)

    def _begin(self, attempt: int) -> None:
        self._attempt = attempt
        self._failed = False
        self._calls = self._calls_away = 0

    def asked(self) -> None:
        """Count a call of the model."""
        self._calls += 1

    def away(self) -> None:
        """Count a call that did not reach the model."""
        self._calls_away += 1

    def refused(self) -> None:
        """Record that the model has refused for good."""
        self._refused = True

    def evaluated_in_vain(self, *, at_once: bool) -> None:
        """Record an evaluation that was taken and not answered, which ends the job.

        `at_once`: the process that made the call has never stood still, so that this attempt is its own.
        """
        self._refused = True
        if at_once:
            self._in_vain.add(self._attempt)

    def take(self, event: Json) -> None:
        """Follow an event of the journal. Raises `BrokenError`."""
        match event["type"]:
            case "job_opened":
                self._invoice_ends_ms = event["eval_invoice"]["expires_at_ms"]
            case "work_invoice_issued":
                self._invoice_ends_ms = event["work_invoice"]["expires_at_ms"]
            case "eval_paid" | "work_paid":
                self._begin(1)
                self._used_up_by_outages = 0
                self._in_vain.clear()
            case "job_accepted":
                # The node makes the work's invoice in attempts of its own, which are not checked here.
                self._begin(0)
            case "attempt_failed":
                self._failed = True
                in_vain = event["step"] == "evaluate" and event["attempt"] in self._in_vain
                must(not in_vain, "an evaluation is to be sent again that an upstream has taken, and may bill")
            case "attempt_started" if self._attempt:
                # An attempt that was lost with its host counts, whatever the model did.
                only_away = self._failed and 0 < self._calls == self._calls_away
                self._used_up_by_outages += only_away and event["attempt"] > self._attempt
                self._begin(event["attempt"])
            case "job_failed" if self._attempt and not self._refused and event["at_ms"] < self._invoice_ends_ms:
                must(not self._used_up_by_outages, "an outage has used up attempts of a job that could have waited")
                must(self._attempt >= JOB_TERMS.model_attempts, "a job has failed that could have waited")
