from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from decimal import Decimal

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from satmeter.actors.domain.errors import Code, Refusal, RefusedError, unavailable
from satmeter.actors.domain.job.state import GetJob
from satmeter.actors.domain.llm.answers import Ending, Held, TextDelta
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.session.messages import RequestAnswer, RequestCost
from satmeter.actors.host.dispatcher import Dispatcher
from satmeter.actors.host.replies import ReplyTo
from satmeter.actors.host_link import LinkError
from satmeter.actors.messages import Answer, Call, Cancel, NotOwner, Ping, Pong, WireCommand, WireReply, WrongReplyError
from satmeter.actors.partitioning import PARTITIONS, owned_by, owner_of, partition_of
from satmeter.actors.router.router import Router
from satmeter.config.log_context import add_context, log_as
from tests.helpers.jobs import VIEW
from tests.helpers.patience import PATIENCE_S
from tests.helpers.session_steps import SES, ask

NOT_FOUND = Refusal(Code.NOT_FOUND, "no")


class FakeHost:
    """A link whose host the test plays: it sees batches, answers calls, and dies."""

    def __init__(self) -> None:
        self.batches: list[list[Call | Cancel]] = []
        self.dead = False
        self.defect: Exception | None = None
        self.taken = asyncio.Event()
        self.taken.set()
        self._answers: dict[str, asyncio.Queue[Answer]] = {}
        self._queues: dict[int, str] = {}
        self._arrived = asyncio.Condition()
        self._death = asyncio.Event()

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        await self.taken.wait()
        if self.defect is not None and not all(_is_trial(call) for call in calls):
            raise self.defect
        if self.dead:
            raise LinkError("dead")
        async with self._arrived:
            self.batches.append([call for call in calls if not _is_trial(call)])
            for call in calls:
                self._queues[call.call_id] = queue_id
                if _is_trial(call):
                    self.answer(call.call_id, Pong() if _is_ping(call) else NotOwner())
            self._arrived.notify_all()

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        queue = self._answers.setdefault(queue_id, asyncio.Queue())
        death, answer = asyncio.create_task(self._death.wait()), asyncio.create_task(queue.get())
        await asyncio.wait({death, answer}, return_when=asyncio.FIRST_COMPLETED)
        died = death.done()
        for task in (death, answer):
            task.cancel()
        if died:
            raise LinkError("dead")
        return [answer.result()]

    async def close(self) -> None:
        pass

    def answer(self, call_id: int, reply: WireReply, last: bool = True) -> None:
        """Answers a call where it last came from."""
        queue = self._answers.setdefault(self._queues[call_id], asyncio.Queue())
        queue.put_nowait(Answer(call_id, reply, last))

    def die(self) -> None:
        """All that was taken is lost."""
        self.dead = True
        self._death.set()

    def revive(self) -> None:
        """A successor answers."""
        self.dead = False
        self._death = asyncio.Event()

    async def calls(self, count: int) -> list[Call]:
        """All calls so far, once there are so many."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self._seen()) >= count)
            return self._seen()

    def _seen(self) -> list[Call]:
        return [call for batch in self.batches for call in batch if isinstance(call, Call)]


def _is_ping(call: Call | Cancel) -> bool:
    return isinstance(call, Call) and isinstance(call.command, Ping)


def _is_trial(call: Call | Cancel) -> bool:
    return isinstance(call, Call) and not call.actor_id


async def everything(partitions: Sequence[int]) -> Mapping[int, str]:
    """The owners where there is one host."""
    return dict.fromkeys(partitions, "host-0")


def router_to(host: FakeHost) -> Router:
    return Router(everything, {"host-0": host}.__getitem__)


async def test_what_waits_while_a_batch_is_on_its_way_shares_the_next() -> None:
    host = FakeHost()
    router = router_to(host)
    host.taken.clear()
    asks = [asyncio.create_task(router.call(f"job_{n}", GetJob())) for n in range(100)]
    await asyncio.wait(asks, timeout=0)
    host.taken.set()
    calls = await host.calls(100)
    assert len([batch for batch in host.batches if batch]) <= 2
    for call in calls:
        host.answer(call.call_id, VIEW)
    assert await asyncio.gather(*asks) == [VIEW] * 100
    await router.close()


async def test_a_call_carries_the_id_of_its_request_and_the_traffic_that_it_began_none() -> None:
    host = FakeHost()
    router = router_to(host)

    async def request(number: int) -> str:
        context = log_as(f"req_{number}")
        await router.call(f"job_{number}", GetJob())
        return context.actor_id

    asks = [asyncio.create_task(request(number)) for number in (1, 2)]
    for call in await host.calls(2):
        assert call.request_id == call.actor_id.replace("job_", "req_")
        host.answer(call.call_id, VIEW)
    assert await asyncio.gather(*asks) == ["job_1", "job_2"]
    with capture_logs(processors=[add_context]) as logs:
        host.die()
        async with asyncio.timeout(PATIENCE_S):
            while not logs:
                await asyncio.sleep(0)
            host.revive()
            while len(logs) < 2:
                await asyncio.sleep(0)
    lost, back = logs
    assert (lost["event"], lost["host_id"], lost["error"]) == ("host_unreachable", "host-0", "dead")
    assert (back["event"], back["host_id"]) == ("host_reachable", "host-0")
    assert "request_id" not in lost and "request_id" not in back
    await router.close()


async def test_a_refusal_is_raised() -> None:
    host = FakeHost()
    router = router_to(host)
    ask = asyncio.create_task(router.call("job_1", GetJob()))
    (call,) = await host.calls(1)
    host.answer(call.call_id, NOT_FOUND)
    with pytest.raises(RefusedError) as refused:
        await ask
    assert refused.value.refusal == NOT_FOUND
    await router.close()


async def test_unanswered_calls_are_sent_again_to_the_successor_of_a_dead_host() -> None:
    host = FakeHost()
    router = router_to(host)
    ask = asyncio.create_task(router.call("job_1", GetJob()))
    await host.calls(1)
    host.die()
    host.revive()
    first, second = await host.calls(2)
    assert second == replace(first, resent=True)
    host.answer(second.call_id, VIEW)
    assert await ask == VIEW
    await router.close()


async def test_a_call_that_has_only_its_hold_is_sent_again_too() -> None:
    host = FakeHost()
    router = router_to(host)
    replies = router.stream(SES, replace(ask(), tells_hold=True))
    waiting = asyncio.create_task(_next_of(replies))
    (first,) = await host.calls(1)
    host.answer(first.call_id, Held(100, 0), last=False)
    assert await waiting == Held(100, 0)
    waiting = asyncio.create_task(_next_of(replies))
    host.die()
    host.revive()
    _, second = await host.calls(2)
    assert second == replace(first, resent=True)
    host.answer(second.call_id, NOT_FOUND)
    with pytest.raises(RefusedError) as refused:
        await waiting
    assert refused.value.refusal == NOT_FOUND
    await router.close()


async def _next_of(replies: AsyncGenerator[WireReply, None]) -> WireReply:
    return await anext(replies)


async def test_a_reply_that_the_command_does_not_declare_is_a_defect_of_ours_by_name() -> None:
    host = FakeHost()
    router = router_to(host)
    for command, reply in ((GetJob(), Pong()), (ask(stream=True), VIEW)):
        asking = asyncio.create_task(router.call("job_1", command))
        call = (await host.calls(1))[-1]
        host.answer(call.call_id, reply)
        with pytest.raises(WrongReplyError, match=f"{type(command).__name__} was answered with {type(reply).__name__}"):
            await asking
        host.batches.clear()
    await router.close()


async def test_a_call_returns_the_reply_behind_its_parts() -> None:
    host = FakeHost()
    router = router_to(host)
    asking = asyncio.create_task(router.call(SES, ask(stream=True)))
    (call,) = await host.calls(1)
    cost = RequestCost("sonnet", Usage(1, 1), Decimal(1), Decimal(0), Msat(2), Msat(1))
    end = RequestAnswer("req_a", Ending.COMPLETE, "hello", None, None, "sonnet", 100, cost, Msat(0))
    for part in (Held(100, 0), TextDelta("hello")):
        host.answer(call.call_id, part, last=False)
    host.answer(call.call_id, end)
    assert await asking == end
    await router.close()


async def test_a_host_that_stays_away_is_answered_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.router.router.PATIENCE_S", 0.05)
    monkeypatch.setattr("satmeter.actors.router.lane.PATIENCE_S", 0.05)
    host = FakeHost()
    host.die()
    router = router_to(host)
    with pytest.raises(RefusedError) as refused:
        await router.call("job_1", GetJob())
    assert refused.value.refusal.code is Code.UNAVAILABLE
    assert refused.value.refusal.retry_after_s
    await router.close()


async def test_what_was_sent_before_is_in_doubt_when_the_second_host_refuses_it() -> None:
    """The first one may have charged for it; that nothing was charged is true only of the second."""
    host = FakeHost()
    router = router_to(host)
    asking = asyncio.create_task(router.call(SES, ask()))
    (first,) = await host.calls(1)
    host.answer(first.call_id, NotOwner())
    _, second = await host.calls(2)
    host.answer(second.call_id, unavailable("The store"))
    with pytest.raises(RefusedError) as refused:
        await asking
    assert "not known what it has done" in refused.value.refusal.message
    assert refused.value.refusal.code is Code.UNAVAILABLE and refused.value.refusal.retry_after_s
    looking = asyncio.create_task(router.call("job_1", GetJob()))
    first = (await host.calls(3))[-1]
    host.answer(first.call_id, NotOwner())
    second = (await host.calls(4))[-1]
    host.answer(second.call_id, unavailable("The store"))
    with pytest.raises(RefusedError) as refused:
        await looking
    assert "nothing was charged" in refused.value.refusal.message
    await router.close()


@pytest.mark.parametrize(
    ("command", "told"), [(ask(), "not known what it has done"), (GetJob(), "nothing was charged")]
)
async def test_only_what_may_cost_is_in_doubt_when_its_host_is_lost(
    monkeypatch: pytest.MonkeyPatch, command: WireCommand, told: str
) -> None:
    monkeypatch.setattr("satmeter.actors.router.router.PATIENCE_S", 0.05)
    monkeypatch.setattr("satmeter.actors.router.lane.PATIENCE_S", 0.05)
    host = FakeHost()
    router = router_to(host)
    asking = asyncio.create_task(router.call(SES, command))
    await host.calls(1)
    host.die()
    with pytest.raises(RefusedError) as refused:
        await asking
    assert told in refused.value.refusal.message
    await router.close()


async def test_a_call_to_a_host_that_lost_the_partition_is_made_again() -> None:
    host = FakeHost()
    router = router_to(host)
    ask = asyncio.create_task(router.call("job_1", GetJob()))
    (call,) = await host.calls(1)
    host.answer(call.call_id, NotOwner())
    _, again = await host.calls(2)
    host.answer(again.call_id, VIEW)
    assert await ask == VIEW
    await router.close()


async def test_more_calls_than_the_limit_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.router.lane._IN_FLIGHT_MAX", 1)
    host = FakeHost()
    router = router_to(host)
    first = asyncio.create_task(router.call("job_1", GetJob()))
    await host.calls(1)
    with pytest.raises(RefusedError) as refused:
        await router.call("job_2", GetJob())
    assert refused.value.refusal.code is Code.UNAVAILABLE
    first.cancel()
    await router.close()


async def test_a_message_that_breaks_the_way_is_refused_and_not_sent_for_ever() -> None:
    host = FakeHost()
    host.defect = UnicodeEncodeError("utf-8", "x", 0, 1, "no")
    router = router_to(host)
    with pytest.raises(RefusedError) as refused:
        await router.call("job_1", GetJob())
    assert refused.value.refusal.code is Code.UNAVAILABLE
    host.defect = None
    ask = asyncio.create_task(router.call("job_2", GetJob()))
    (call,) = await host.calls(1)
    assert call.actor_id == "job_2"
    host.answer(call.call_id, VIEW)
    assert await ask == VIEW
    await router.close()


async def test_a_caller_that_leaves_is_cancelled_at_the_host() -> None:
    host = FakeHost()
    router = router_to(host)
    ask = asyncio.create_task(router.call("job_1", GetJob()))
    (call,) = await host.calls(1)
    ask.cancel()
    async with asyncio.timeout(PATIENCE_S):
        while Cancel(call.call_id) not in [message for batch in host.batches for message in batch]:
            async with host._arrived:
                await host._arrived.wait()
    await router.close()


def test_each_partition_has_one_owner_and_a_new_host_moves_only_its_share() -> None:
    three, four = ["a", "b", "c"], ["a", "b", "c", "d"]
    owned = [owned_by(host_id, three) for host_id in three]
    assert sorted(partition for share in owned for partition in share) == list(range(PARTITIONS))
    assert all(250 < len(share) < 450 for share in owned)
    moved = [p for p in range(PARTITIONS) if owner_of(p, three) != owner_of(p, four)]
    assert all(owner_of(partition, four) == "d" for partition in moved)
    assert 150 < len(moved) < 350


def test_an_id_keeps_its_partition_for_good() -> None:
    assert partition_of("job_0123456789abcdefghijklmnopqrstuv") == 638


class RealReplyQueues:
    """A link to a host's own dispatcher, whose connection breaks."""

    def __init__(self) -> None:
        self.calls: dict[str, list[ReplyTo]] = {}
        self.broken = asyncio.Event()
        self._dispatcher = Dispatcher(OwnsAll(), ["job"], self._serve)  # type: ignore[arg-type]

    def _serve(self, call: Call, reply_to: ReplyTo) -> None:
        self.calls.setdefault(call.actor_id, []).append(reply_to)

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        if self.broken.is_set():
            raise LinkError("broken")
        await self._dispatcher.submit(queue_id, calls)

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        answers = asyncio.create_task(self._dispatcher.collect(queue_id))
        broken = asyncio.create_task(self.broken.wait())
        await asyncio.wait({answers, broken}, return_when=asyncio.FIRST_COMPLETED)
        breaks = broken.done()
        for task in (answers, broken):
            task.cancel()
        if breaks:
            raise LinkError("broken")
        return answers.result()

    async def close(self) -> None:
        pass


class OwnsAll:
    def __contains__(self, partition: int) -> bool:
        return True

    def rest_of(self, partition: int) -> None:
        return None

    async def verify(self) -> None:
        return None


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            moment = asyncio.Event()
            asyncio.get_running_loop().call_later(0.005, moment.set)
            await moment.wait()


@pytest.mark.parametrize("breaks_again", [False, True])
async def test_a_call_that_is_given_up_is_cancelled_in_each_queue_that_it_came_by(breaks_again: bool) -> None:
    """Else its caller waits at the host after the router's connection broke, its work goes on, and it is charged."""
    link = RealReplyQueues()
    router = Router(everything, {"host-0": link}.__getitem__)
    asked = [asyncio.create_task(router.call(f"job_{n}", GetJob())) for n in range(2)]
    await _until(lambda: len(link.calls) == 2)
    link.broken.set()
    # Given up while nothing can be sent.
    asked[0].cancel()
    await asyncio.wait(asked[:1])
    link.broken.clear()
    await _until(lambda: len(link.calls["job_1"]) == 2)
    await _until(lambda: all(reply_to.cancelled for reply_to in link.calls["job_0"]))
    if breaks_again:
        link.broken.set()
        await asyncio.sleep(0)
        link.broken.clear()
        await _until(lambda: len(link.calls["job_1"]) == 3)
    assert not any(reply_to.cancelled for reply_to in link.calls["job_1"])
    asked[1].cancel()
    await _until(lambda: all(reply_to.cancelled for reply_to in link.calls["job_1"]))
    await router.close()
