"""Books of one job, kept from the raw JSON of its journal. Nothing here comes from the program under test."""

from __future__ import annotations

from typing import Any, Final

from .sessions import MSAT_PER_SAT, Account, Json, must

_FINAL: Final = frozenset({"complete", "rejected", "failed", "expired"})


class JobAccount(Account):
    """Account of a job. `gives_away`: work without a usage costs nothing."""

    def __init__(self, actor_id: str, gives_away: bool = False) -> None:
        super().__init__(actor_id)
        self._gives_away = gives_away
        self.state = "none"
        self.held = 0
        self.eval_hash = ""
        self.work_hash = ""
        self.at_ms = 0
        self.dropped = False

    def parts(self) -> tuple[int, ...]:
        """See `Account.parts`."""
        return self.held, *super().parts()

    def take(self, event: Json) -> None:
        """See `Account.take`."""
        super().take(event)
        if event["type"] not in {"webhook_tried", "request_dropped"}:  # Clients see nothing of them.
            self.at_ms = event["at_ms"]

    def view(self) -> tuple[Any, ...]:
        """See `Account.view`."""
        return self.state, self.at_ms, self.owed + self.pending, self.refunded, self.refund_to, self.refund_error

    @property
    def eval_paid(self) -> bool:
        """Payment of the evaluation: True once it is credited."""
        return self.eval_hash in self.credited

    @property
    def work_paid(self) -> bool:
        """Payment of the work: True once it is credited."""
        return self.work_hash in self.credited

    def _on_job_opened(self, event: Json) -> None:
        must(self.state == "none", "opened twice")
        self.state, self.eval_hash = "awaiting_eval_payment", event["eval_invoice"]["payment_hash"]
        self.invoice(event["eval_invoice"])
        self._name(event["refund_to"], 0)

    def _on_payout_started(self, event: Json) -> None:
        must(self.state in _FINAL or event["refund_to"] is None, "a refund goes out by itself while the job goes on")
        super()._on_payout_started(event)

    def _on_eval_paid(self, event: Json) -> None:
        must(self.state in {"awaiting_eval_payment", "expired"}, f"the evaluation is paid in {self.state}")
        must(event["payment_hash"] == self.eval_hash, "the evaluation is paid by another invoice")
        self.held += self.credit(event)
        self.state = "evaluating"

    def _on_work_paid(self, event: Json) -> None:
        must(self.state in {"awaiting_work_payment", "expired"}, f"the work is paid in {self.state}")
        must(event["payment_hash"] == self.work_hash, "the work is paid by another invoice")
        self.held += self.credit(event)
        self.state = "executing"

    def _on_request_dropped(self, event: Json) -> None:
        must(self.state == "expired" and not self.received, "the text of a job that was paid for is dropped")
        self.dropped = True

    def _on_attempt_started(self, event: Json) -> None:
        must(self.state in {"evaluating", "executing"}, f"an attempt in {self.state}")
        must(not self.dropped, "a text is evaluated that is not here any more")

    def _on_attempt_failed(self, event: Json) -> None:
        self._on_attempt_started(event)

    def _on_job_accepted(self, event: Json) -> None:
        must(self.state == "evaluating" and not self.dropped, f"accepted in {self.state}")

    def _on_work_invoice_issued(self, event: Json) -> None:
        must(self.state == "evaluating", f"a work invoice in {self.state}")
        self._deliver(min(self.held, self.invoices[self.eval_hash]))
        self.state, self.work_hash = "awaiting_work_payment", event["work_invoice"]["payment_hash"]
        self.invoice(event["work_invoice"])

    def _on_job_rejected(self, event: Json) -> None:
        must(self.state == "evaluating" and not self.dropped, f"rejected in {self.state}")
        self._deliver(min(self.held, self.invoices[self.eval_hash]))
        self.state = "rejected"

    def _on_job_completed(self, event: Json) -> None:
        must(self.state == "executing", f"completed in {self.state}")
        charged = event["charged_msat"]
        least = 0 if self._gives_away and not event["usage_known"] else 1
        must(least <= charged <= self.credited[self.work_hash], "work is charged beyond what was paid, or not at all")
        self._deliver(charged)
        self.state = "complete"

    def _on_job_failed(self, event: Json) -> None:
        must(self.state in {"evaluating", "executing"}, f"failed in {self.state}")
        self._deliver(0)
        self.whole, returned = event["ours"], event["evaluation_returned_msat"]
        self.spent, self.owed = self.spent - returned, self.owed + returned
        left = self.received - self.refunded - self.fees
        must(not self.whole or self.owed == left, "a job that failed by our fault keeps something")
        self.state = "failed"

    def _on_job_expired(self, event: Json) -> None:
        must(self.state.startswith("awaiting_"), f"expired in {self.state}")
        self.state = "expired"

    def _deliver(self, spent: int) -> None:
        rest = self.held - spent
        owed = rest if rest >= MSAT_PER_SAT else 0
        self.spent += self.held - owed
        self.owed += owed
        self.held = 0

    def unrest(self) -> str | None:
        """See `Account.unrest`."""
        if self.state not in _FINAL:
            return f"it is still {self.state}"
        return super().unrest()
