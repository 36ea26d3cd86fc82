"""The load itself: requests by many sessions, in an open or a closed loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any, Final

from .api import Holder, Said, Server, has_text, said
from .options import Options
from .retry import Delivery, deliver
from .schedule import OpenLoop
from .stats import Recorder

NO_ANSWER: Final = "no_answer"
"""Code of a request whose answer was lost for good; its status is 0."""
NOT_OURS: Final = "not_satmeter"
"""Code of an answer that did not come from a Satmeter server, such as a proxy's page."""
ABANDONED: Final = "abandoned"
"""Code of a request that was still unanswered when the test was ended for good; its status is 0."""
_INTERNAL: Final = "internal_error"
# A test that is ended early waits this long for its answers.
_PATIENCE_S: Final = 10.0


class Load:
    """One run of the load. `interrupt` ends it early, `abandon` also the wait for what is unanswered."""

    def __init__(self, server: Server, holders: Sequence[Holder], options: Options, run_id: str) -> None:
        self._server = server
        self._holders = holders
        self._options = options
        self._run_id = run_id
        self._body: dict[str, Any] = {"request": options.request, "maxTokens": options.max_tokens}
        if options.stream:
            self._body["stream"] = True
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._began_s = 0.0
        self.recorder = Recorder(options.duration_s)
        self.schedule: OpenLoop | None = None
        self.in_flight = 0
        self.load_s = 0.0
        self.answered_in_time = 0

    @property
    def now_s(self) -> float:
        """Seconds since the load began."""
        return self._loop.time() - self._began_s

    @property
    def interrupted(self) -> bool:
        """Set once the load was ended early."""
        return self._stop.is_set()

    def interrupt(self) -> None:
        """Start no more requests, and wait some seconds for those that are unanswered."""
        if not self._stop.is_set():
            self._stop.set()
            self._wake.set()
            self._loop.call_later(_PATIENCE_S, self.abandon)

    def abandon(self) -> None:
        """Wait no longer for answers: the outcome of these requests stays unknown."""
        for task in self._running:
            task.cancel()

    async def run(self) -> None:
        """Put the server under load, and return when everything that was sent has ended."""
        self._began_s = self._loop.time()
        if self._options.think_s is None:
            await self._open_loop()
        else:
            await self._closed_loop(self._options.think_s)
        self.load_s = min(self.now_s, self._options.duration_s)
        self.answered_in_time = self.recorder.answered
        giving_up = self._loop.call_later(self._options.timeout_s, self.abandon)
        while self._running:
            await asyncio.wait(self._running)
        giving_up.cancel()

    async def _open_loop(self) -> None:
        options = self._options
        assert options.rate_per_s is not None
        schedule = self.schedule = OpenLoop(options.rate_per_s, options.duration_s, options.in_flight_max)
        turns = itertools.cycle(self._holders)

        def ended(task: asyncio.Task[None]) -> None:
            if schedule.blocked:
                self._wake.set()
            schedule.finish()
            self._running.discard(task)

        while not self._stop.is_set() and not schedule.over(self.now_s):
            for due_s in schedule.take(self.now_s):
                task = self._loop.create_task(self._ask(next(turns), due_s))
                self._running.add(task)
                task.add_done_callback(ended)
            if not schedule.over(self.now_s):
                await self._pause(schedule.pause_s(self.now_s))
        # The last request may have been due a while before the end.
        await self._stopped_within(options.duration_s)

    async def _closed_loop(self, think_s: float) -> None:
        count = len(self._holders)
        slots = asyncio.Semaphore(self._options.in_flight_max)

        async def user(number: int, holder: Holder) -> None:
            # The starts are spread over the time of thought, so that the sessions don't all ask at once.
            pause_s = think_s * number / count
            while not await self._stopped_within(pause_s):
                due_s = self.now_s
                async with slots:
                    await self._ask(holder, due_s)
                pause_s = think_s

        for number, holder in enumerate(self._holders):
            task = self._loop.create_task(user(number, holder))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        await self._stopped_within(self._options.duration_s)

    async def _pause(self, longest_s: float) -> None:
        """Wait until the time has passed, or something is to be done before."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._wake.wait()

    async def _stopped_within(self, pause_s: float) -> bool:
        """Wait that time, and return whether the end comes within it."""
        left_s = self._options.duration_s - self.now_s
        try:
            async with asyncio.timeout(min(pause_s, left_s)):
                await self._stop.wait()
        except TimeoutError:
            return pause_s >= left_s
        return True

    async def _ask(self, holder: Holder, due_s: float) -> None:
        """Make one request, until it is answered or given up."""
        key = f"load-{self._run_id}-{next(self._numbers)}"
        first_s: float | None = None

        def note_text(piece: bytes) -> None:
            nonlocal first_s
            if first_s is None and has_text(piece):
                first_s = self.now_s

        on_body = note_text if self._options.stream else None
        self.in_flight += 1
        try:
            delivery = await deliver(lambda: self._server.ask(holder, self._body, key, on_body))
        except asyncio.CancelledError:
            holder.tally.unknown += 1
            self.recorder.failure(self.now_s, 0, ABANDONED, "the test ended before the answer came")
            raise
        finally:
            self.in_flight -= 1
        self._account(holder, delivery, due_s, first_s)

    def _account(self, holder: Holder, delivery: Delivery, due_s: float, first_s: float | None) -> None:
        now_s, answer = self.now_s, delivery.answer
        body = said(answer) if answer is not None else Said()
        if body.debited_msat is not None and body.request_id:
            holder.tally.tell(body.request_id, body.debited_msat)
        elif not _charged_nothing(body, delivery):
            holder.tally.unknown += 1
        good = answer is not None and answer.status == 200 and body.debited_msat is not None
        if good:
            self.recorder.answer(due_s, now_s, first_s)
        else:
            self.recorder.failure(now_s, *_failure_of(delivery, body))
        if delivery.attempts > 1 or delivery.refused or delivery.lost:
            self.recorder.retries(delivery.refused, delivery.lost, mended=good)


def _charged_nothing(body: Said, delivery: Delivery) -> bool:
    """Return whether the server's own answer says that the request cost nothing.

    A refusal speaks only of the attempt that it answers, and not of an earlier one that was lost. An error within the
    server says nothing about the cost either.
    """
    return bool(body.code) and body.code != _INTERNAL and not delivery.lost_sent


def _failure_of(delivery: Delivery, body: Said) -> tuple[int, str, str]:
    """Return status, code and text of a failure."""
    if delivery.answer is None:
        return 0, NO_ANSWER, delivery.why
    return delivery.answer.status, body.code or NOT_OURS, body.error
