"""Sessions on a real host and a real store: what several callers, crashes and lost confirmations do to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.credentials.caveats import SpendLimit
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.llm.answers import Ending, TextDelta
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.domain.session.messages import Ask, EntryKind, RequestAnswer, TopUp, TopUpInvoice
from satmeter.actors.messages import WireReply
from satmeter.actors.ports import ModelError, TransientError
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World, until
from tests.helpers.patience import PATIENCE_S
from tests.helpers.session_steps import GRANT, SES, answered, ask, ledger, opened, show

pytestmark = pytest.mark.usefixtures("placement")


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    return World(redis)


async def test_a_request_is_held_for_charged_and_told_in_the_ledger(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        asking = asyncio.create_task(answered(router, ask()))
        await world.model.gate.wait_for_arrival()
        held = await show(router)
        assert held.held_msat > Msat(0) and held.spent_msat == Msat(0)
        world.model.gate.open()
        answer = await asking
        after = await show(router)
        assert after.spent_msat == answer.cost.debit_msat > Msat(0)
        assert after.held_msat == Msat(0) and after.balance_msat == answer.balance_msat
        entries = await ledger(router)
        assert [entry.kind for entry in entries] == [
            EntryKind.DEPOSIT, EntryKind.HOLD, EntryKind.DEBIT, EntryKind.RELEASE,
        ]  # fmt: skip
        assert [entry.seq for entry in entries] == [1, 2, 3, 4]
        assert entries[-1].balance_msat == after.balance_msat
        assert {entry.request_id for entry in entries[1:]} == {"req_1"}


async def test_concurrent_requests_never_overspend_and_do_not_wait_for_each_other(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router, 100)
        world.model.gate.close()
        asks = [asyncio.create_task(answered(router, ask(n, max_tokens=200))) for n in range(60)]
        await until(lambda: _some_refused(asks))
        refused = [task for task in asks if task.done()]
        running = len(asks) - len(refused)
        for _ in range(running):
            await world.model.gate.wait_for_arrival()
        world.model.gate.open()
        answers = [await task for task in asks if task not in refused]
        view = await show(router)
        assert view.spent_msat == Msat(sum(answer.cost.debit_msat.value for answer in answers))
        for task in refused:
            error = task.exception()
            assert isinstance(error, RefusedError) and error.refusal.code is Code.INSUFFICIENT_BALANCE


async def _some_refused(asks: list[asyncio.Task[RequestAnswer]]) -> bool:
    # The turn that refuses one has decided upon all that came before it.
    return any(task.done() for task in asks[-20:])


async def test_the_same_key_gives_the_same_answer_with_one_charge_also_after_a_crash(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        twice = [asyncio.create_task(answered(router, ask(n, key="k"))) for n in (1, 2)]
        await world.model.gate.wait_for_arrival()
        world.model.gate.open()
        first, second = await asyncio.gather(*twice)
        assert first == second and first.request_id == "req_1"
    async with world.serving() as (_, router):
        assert await answered(router, ask(3, key="k")) == first
        with pytest.raises(RefusedError) as conflict:
            await answered(router, ask(4, key="k", once=Once("k", "other", keyed=True)))
        assert conflict.value.refusal.code is Code.IDEMPOTENCY_CONFLICT
        assert (await show(router)).spent_msat == first.cost.debit_msat
    assert world.model.completed == ["say hello"]


async def test_a_hold_whose_host_died_is_released_and_the_retry_is_charged_once(world: World) -> None:
    world.model.gate.close()
    async with world.serving() as (_, router):
        await opened(router)
        dying = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
        assert (await show(router)).held_msat > Msat(0)
    with pytest.raises(RefusedError):
        await dying
    world.model.gate.open()
    async with world.serving() as (_, router):
        before = await show(router)
        assert before.held_msat == Msat(0) and before.balance_msat == before.deposited_msat
        answer = await answered(router, ask(key="k"))
        assert (await show(router)).spent_msat == answer.cost.debit_msat
        kinds = [entry.kind for entry in await ledger(router)]
        assert kinds.count(EntryKind.HOLD) == 2 and kinds.count(EntryKind.DEBIT) == 1


@pytest.mark.parametrize("fault", ["lose_before_writing", "lose_after_writing"])
@pytest.mark.parametrize("at", ["hold", "debit"])
@pytest.mark.parametrize("snapshot_every", [1, 64])
async def test_a_write_whose_confirmation_is_lost_is_charged_once(
    world: World, fault: str, at: str, snapshot_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.actors.host.activation._SNAPSHOT_EVERY", snapshot_every)
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        if at == "hold":
            setattr(world.journal, fault, 1)
        asking = asyncio.create_task(answered(router, ask()))
        await world.model.gate.wait_for_arrival()
        if at == "debit":
            setattr(world.journal, fault, 1)
        world.model.gate.open()
        async with asyncio.timeout(PATIENCE_S):
            answer = await asking
        view = await show(router)
        assert view.spent_msat == answer.cost.debit_msat and view.held_msat == Msat(0)
        assert len(world.model.completed) == 1


@pytest.mark.parametrize("late", [1, 2, 30])
async def test_a_caller_is_answered_though_an_earlier_attempt_to_write_it_is_made_after_a_later_one_was_sent(
    world: World, late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that stood still carries out what was sent to it first, when the host has read and tried again."""
    monkeypatch.setattr("satmeter.actors.host.mailbox._STORE_BACKOFF_MAX_S", 0.01)
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        asking = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
        world.journal.late = late
        world.model.gate.open()
        async with asyncio.timeout(PATIENCE_S):
            answer = await asking
        assert (await show(router)).spent_msat == answer.cost.debit_msat
        assert await answered(router, ask(2, key="k")) == answer
        assert len(world.model.completed) == 1


async def test_who_was_told_that_nothing_was_charged_is_charged_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.actors.host.mailbox._STORE_PATIENCE_S", 0.0)
    async with world.serving() as (_, router):
        await opened(router)
        world.journal.lose_after_writing = 1
        with pytest.raises(RefusedError) as refused:
            await answered(router, ask())
        assert refused.value.refusal.code is Code.UNAVAILABLE

        async def whole() -> bool:
            view = await show(router)
            return view.balance_msat == view.deposited_msat

        await until(whole)
        kinds = [entry.kind for entry in await ledger(router)]
        assert kinds == [EntryKind.DEPOSIT, EntryKind.HOLD, EntryKind.RELEASE]
    assert world.model.evaluated == []


async def test_who_waits_for_what_can_t_be_written_is_told_so_and_finds_it_under_the_same_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.actors.host.mailbox._STORE_PATIENCE_S", 0.0)
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        asking = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
        world.journal.lose_before_writing = 1
        world.model.gate.open()
        with pytest.raises(RefusedError) as refused:
            await asking
        assert refused.value.refusal.code is Code.UNAVAILABLE and refused.value.refusal.retry_after_s
        assert "nothing was charged" not in refused.value.refusal.message
        answer = await answered(router, ask(2, key="k"))
        assert (await show(router)).spent_msat == answer.cost.debit_msat
        kinds = [entry.kind for entry in await ledger(router)]
        assert kinds == [EntryKind.DEPOSIT, EntryKind.HOLD, EntryKind.DEBIT, EntryKind.RELEASE]
    assert len(world.model.completed) == 1


async def test_a_stream_gives_text_as_it_comes_and_joiners_get_all_of_it(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.piece_gate.close()
        first = router.stream(SES, ask(key="k", stream=True))
        texts: list[str] = []
        async with aclosing(first):
            pending = asyncio.create_task(anext(first))
            await world.model.piece_gate.wait_for_arrival()
            # Lets the first piece through, and holds the others until somebody has joined.
            world.model.piece_gate.open()
            world.model.piece_gate.close()
            delta = await pending
            assert isinstance(delta, TextDelta)
            texts.append(delta.text)
            second = router.stream(SES, ask(2, key="k", stream=True))
            assert await anext(second) == delta
            joined = asyncio.create_task(_rest_of(second, delta.text))
            world.model.piece_gate.open()
            last: object = None
            async for reply in first:
                if isinstance(reply, TextDelta):
                    texts.append(reply.text)
                last = reply
        assert isinstance(last, RequestAnswer) and last.text == "".join(texts) == "the answer"
        assert await joined == ("the answer", last)


async def _streamed(router: Router, command: Ask) -> tuple[str, object]:
    return await _rest_of(router.stream(SES, command))


async def _rest_of(replies: AsyncGenerator[WireReply, None], text: str = "") -> tuple[str, object]:
    last = None
    async for reply in replies:
        if isinstance(reply, TextDelta):
            text += reply.text
        last = reply
    return text, last


async def test_a_client_that_leaves_stops_the_model_and_pays_for_what_was_used(world: World) -> None:
    world.model.pieces = ["word "] * 1_000
    async with world.serving() as (_, router):
        await opened(router)
        stream = router.stream(SES, ask(key="k", stream=True))
        async with aclosing(stream):
            await anext(stream)
            world.model.piece_gate.close()
            await world.model.piece_gate.wait_for_arrival()

        async def ended() -> bool:
            return (await show(router)).held_msat == Msat(0)

        await until(ended)
        assert world.model.stream_closed == 1
        answer = await answered(router, ask(2, key="k", stream=True))
        assert answer.ending is Ending.LEFT and answer.stop_reason == "cancelled"
        view = await show(router)
        assert Msat(0) < view.spent_msat == answer.cost.debit_msat < view.deposited_msat


async def test_a_model_that_fails_midway_charges_what_it_gave(world: World) -> None:
    world.model.fault_after, world.model.stream_fault = 1, TransientError("broke")
    async with world.serving() as (_, router):
        await opened(router)
        text, last = await _streamed(router, ask(stream=True))
        assert isinstance(last, RequestAnswer) and last.ending is Ending.BROKEN
        assert last.text == text == "the " and last.cost.debit_msat > Msat(0)
        assert (await show(router)).spent_msat == last.cost.debit_msat


async def test_a_model_that_gives_nothing_costs_nothing(world: World) -> None:
    world.model.faults = [ModelError("answered 500", ModelFault.FAILING, answered=True) for _ in range(3)]
    async with world.serving() as (_, router):
        await opened(router)
        with pytest.raises(RefusedError) as refused:
            await answered(router, ask(key="k"))
        assert refused.value.refusal.code is Code.MODEL_FAILED
        view = await show(router)
        assert view.balance_msat == view.deposited_msat
        assert (await answered(router, ask(key="k"))).ending is Ending.COMPLETE


async def test_spend_limits_are_exact_under_concurrency(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        alone = await answered(router, ask(0))
        limit = SpendLimit("counter", Msat(alone.cost.held_msat.value * 3))
        limited = replace(GRANT, spend_limits=(limit,))
        outcomes = await asyncio.gather(
            *(answered(router, ask(n, grant=limited)) for n in range(1, 40)), return_exceptions=True
        )
        answers = [outcome for outcome in outcomes if isinstance(outcome, RequestAnswer)]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, RefusedError)]
        assert len(answers) + len(refusals) == 39 and answers and refusals
        assert sum(answer.cost.debit_msat.value for answer in answers) <= limit.limit_msat.value
        assert {error.refusal.code for error in refusals} == {Code.CAVEAT_VIOLATED}


async def test_top_ups_are_made_once_for_a_key_and_credited_once_each(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        keyed = TopUp(500, Once("k", "d", keyed=True), GRANT)
        other = TopUp(500, Once("k2", "d", keyed=True), GRANT)
        first, again, second = await asyncio.gather(*(router.call(SES, c) for c in (keyed, keyed, other)))
        assert isinstance(first, TopUpInvoice) and first == again != second
        assert isinstance(second, TopUpInvoice)
        for invoice in (first.invoice, second.invoice, second.invoice):
            await router.call(SES, Settle(invoice.payment_hash, Msat.from_sats(500)))
        assert (await show(router)).deposited_msat == Msat.from_sats(11_000)
    async with world.serving() as (_, router):
        assert await router.call(SES, keyed) == first
