"""Lost and postponed requests are sent again under the same key, and count once; unknown outcomes are reported."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from satmeter.scripts.http_client import Answer, LostError
from satmeter.scripts.load.api import Holder, stream_end
from satmeter.scripts.load.options import Options
from satmeter.scripts.load.retry import Delivery, deliver
from satmeter.scripts.load.runner import Load

Step = Answer | LostError


def _answer(status: int = 200, retry_after: str | None = None, **body: Any) -> Answer:
    headers = {} if retry_after is None else {b"retry-after": retry_after.encode()}
    return Answer(status, headers, msgspec.json.encode(body))


GOOD = _answer(requestId="req_1", debitedMsat=2_000)
LOST = LostError("gone", sent=True)
NEVER_SENT = LostError("no connection", sent=False)
BUSY = _answer(503, "0", code="unavailable", error="later", requestId="req_x")
NO_MONEY = _answer(402, code="insufficient_balance", error="top up", requestId="req_y")
BROKEN = _answer(502, code="model_failed", error="half", requestId="req_1", debitedMsat=700)


async def _delivered(*steps: Step, **options: Any) -> tuple[Delivery, list[float]]:
    left, pauses = list(steps), []

    async def send() -> Answer:
        step = left.pop(0)
        if isinstance(step, LostError):
            raise step
        return step

    async def pause(duration_s: float) -> None:
        pauses.append(duration_s)

    delivery = await deliver(send, pause=pause, **options)
    assert left == [], "it stopped too early"
    return delivery, pauses


async def test_an_answer_is_final_whatever_it_says() -> None:
    for answer in (GOOD, NO_MONEY, _answer(500), _answer(429, "1")):
        delivery, pauses = await _delivered(answer)
        assert (delivery.answer, delivery.attempts, pauses) == (answer, 1, [])


async def test_a_503_is_waited_for_as_long_as_it_asks() -> None:
    delivery, pauses = await _delivered(_answer(503, "2"), _answer(503, "7"), GOOD)
    assert (delivery.answer, delivery.refused, pauses) == (GOOD, 2, [2, 7])
    # Not when it names no time, or one beyond all patience.
    for last in (_answer(503), _answer(503, "3600"), _answer(503, "Wed, 21 Oct 2015 07:28:00 GMT")):
        assert (await _delivered(last))[0].answer is last


async def test_other_statuses_are_waited_for_only_where_that_helps() -> None:
    delivery, pauses = await _delivered(_answer(429, "3"), GOOD, retry=(503, 429))
    assert (delivery.answer, pauses) == (GOOD, [3])


async def test_a_lost_answer_is_sent_for_again_with_growing_pauses() -> None:
    delivery, pauses = await _delivered(LOST, NEVER_SENT, LOST, GOOD)
    assert (delivery.answer, delivery.lost, delivery.lost_sent) == (GOOD, 3, 2)
    assert pauses == [0.1, 0.2, 0.4]


async def test_attempts_are_bounded() -> None:
    delivery, pauses = await _delivered(*[LOST] * 8)
    assert (delivery.answer, delivery.why, delivery.attempts, len(pauses)) == (None, "gone", 8, 7)
    delivery, _ = await _delivered(*[BUSY] * 3, attempts_max=3)
    assert (delivery.answer, delivery.refused) == (BUSY, 3)


class _Server:
    """Answers one request after the other from a script, and keeps the keys that came."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.keys: list[str] = []

    async def ask(self, _holder: Holder, _body: Any, key: str, _on_body: Any) -> Answer:
        self.keys.append(key)
        await asyncio.sleep(0)
        step = self._steps.pop(0)
        if isinstance(step, LostError):
            raise step
        return step


async def _one_request(*steps: Step) -> tuple[Load, Holder, _Server]:
    server, holder = _Server(*steps), Holder("ses_1", "macaroon")
    options = Options("http://127.0.0.1:1", rate_per_s=1, duration_s=0.01)
    load = Load(cast(Any, server), [holder], options, "run")
    await load.run()
    return load, holder, server


@pytest.mark.parametrize(
    ("steps", "answered", "told", "unknown"),
    [
        ([GOOD], 1, {"req_1": 2_000}, 0),
        ([BUSY, GOOD], 1, {"req_1": 2_000}, 0),
        ([LOST, BUSY, GOOD], 1, {"req_1": 2_000}, 0),
        # The server's word that nothing was charged; but not for an attempt that was lost before it.
        ([NO_MONEY], 0, {}, 0),
        ([BUSY] * 8, 0, {}, 0),
        ([NEVER_SENT, NO_MONEY], 0, {}, 0),
        ([LOST, NO_MONEY], 0, {}, 1),
        ([_answer(500, code="internal_error", requestId="req_z")], 0, {}, 1),
        ([Answer(504, {}, b"<html>a proxy's page</html>")], 0, {}, 1),
        # Failed, and charged for what there was.
        ([BROKEN], 0, {"req_1": 700}, 0),
    ],
)
async def test_one_request_has_one_key_one_outcome_and_one_debit(
    steps: list[Step], answered: int, told: dict[str, int], unknown: int
) -> None:
    load, holder, server = await _one_request(*steps)
    assert len(server.keys) == len(steps) and len(set(server.keys)) == 1
    assert (load.recorder.answered, load.recorder.failed) == (answered, 1 - answered)
    assert (holder.tally.debits_msat, holder.tally.unknown) == (told, unknown)


async def test_mended_requests_are_counted_by_what_was_mended() -> None:
    recorder = (await _one_request(LOST, BUSY, BUSY, GOOD))[0].recorder
    assert (recorder.retried_lost, recorder.mended_lost) == (1, 1)
    assert (recorder.retried_unavailable, recorder.mended_unavailable) == (2, 1)
    recorder = (await _one_request(BUSY, NO_MONEY))[0].recorder
    assert (recorder.retried_unavailable, recorder.mended_unavailable) == (1, 0)
    assert recorder.errors == {(402, "insufficient_balance"): 1}


async def test_a_request_that_is_abandoned_has_an_unknown_outcome() -> None:
    asked = asyncio.Event()

    class Silent(_Server):
        async def ask(self, *_: Any) -> Answer:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    holder = Holder("ses_1", "macaroon")
    load = Load(cast(Any, Silent()), [holder], Options("http://127.0.0.1:1", rate_per_s=1, duration_s=60), "run")
    running = asyncio.create_task(load.run())
    await asked.wait()
    load.interrupt()
    load.abandon()
    await running
    assert holder.tally.unknown == 1 and load.recorder.errors == {(0, "abandoned"): 1}


def test_the_end_of_a_stream_is_the_answer_that_it_would_have_been_unstreamed() -> None:
    delta = b'event: delta\ndata: {"text":"event: done\\ndata: {}"}\n\n'
    done = b'event: done\ndata: {"requestId":"req_1","debitedMsat":5}\n\n'
    whole = stream_end(Answer(200, {}, delta + b": keep-alive\n\n" + done))
    assert (whole.status, msgspec.json.decode(whole.body)) == (200, {"requestId": "req_1", "debitedMsat": 5})
    broken = stream_end(Answer(200, {}, delta + b'event: error\ndata: {"code":"unavailable"}\n\n'))
    assert (broken.status, broken.retry_after_s) == (503, 1)
    assert stream_end(Answer(200, {}, b'event: error\ndata: {"code":"model_failed"}\n\n')).status == 502
    assert stream_end(NO_MONEY) is NO_MONEY
    for cut in (delta, b""):
        with pytest.raises(LostError) as caught:
            stream_end(Answer(200, {}, cut))
        assert caught.value.sent
