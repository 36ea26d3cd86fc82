"""Answers of upstreams, changed in any part, in the words of all dialects: an answer or an error, however it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.llm.answers import Ending, Held
from satmeter.actors.domain.llm.relays import RelayBytes
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.session.messages import Relayed, RequestCost
from satmeter.http.anthropic.over_chat.dialect import MessagesOverChat
from satmeter.http.anthropic.relay import RelayStream
from satmeter.http.anthropic.usage import LastUsage, with_cost
from satmeter.http.openai.over_chat import ChatOverChat
from satmeter.http.openai.routes import Chat
from satmeter.http.request_facts import RequestFacts
from satmeter.http.responses.dialects import ResponsesOverChat, ResponsesOverMessages
from satmeter.http.translation.relaying import Dialect
from satmeter.http.upstreams.provider_call import UnreadableAnswerError
from satmeter.http.upstreams.served_models import ServedModels
from tests.fuzz.mutations import bodies, cut, places
from tests.fuzz.request_seeds import CHATS, RESPONSES
from tests.fuzz.request_seeds import MESSAGES as MESSAGES_ASKED
from tests.fuzz.test_translated_requests import KEY, OVER_CHAT, OVER_MESSAGES
from tests.fuzz.upstream_seeds import CHAT_MESSAGES, CHAT_STREAMS, MESSAGES, STREAMS, events

LOOP = asyncio.new_event_loop()
AT_MS = 1_790_000_000_000
COST = RequestCost("claude-sonnet-5-5", Usage(3, 4), Decimal("0.001"), Decimal(0), Msat(9), Msat(5))
FACTS = RequestFacts("req_a")
Seeds = Sequence[Any]
# Each with its models, its requests, and the upstream's answers, whole and streamed.
DIALECTS: Sequence[tuple[Dialect[Any], ServedModels, Seeds, Seeds, Seeds]] = (
    (Chat(), OVER_MESSAGES, CHATS, MESSAGES, STREAMS),
    (ChatOverChat(), OVER_CHAT, CHATS, CHAT_MESSAGES, CHAT_STREAMS),
    (ResponsesOverMessages(), OVER_MESSAGES, RESPONSES, MESSAGES, STREAMS),
    (ResponsesOverChat(), OVER_CHAT, RESPONSES, CHAT_MESSAGES, CHAT_STREAMS),
    (MessagesOverChat(), OVER_CHAT, MESSAGES_ASKED, CHAT_MESSAGES, CHAT_STREAMS),
)
numbers = pytest.mark.parametrize("number", range(len(DIALECTS)))


def relayed(body: bytes = b"", status: int = 200, ending: Ending = Ending.COMPLETE) -> Relayed:
    headers = {"content-type": "application/json"}
    return Relayed("req_a", ending, status, headers, body, 100, COST, Msat(7), AT_MS)


class _Source:
    async def aclose(self) -> None:
        pass


async def _parts(pieces: Sequence[bytes], end: Relayed) -> AsyncGenerator[RelayBytes | Relayed, None]:
    for piece in pieces:
        yield RelayBytes(piece)
    yield end


async def _gathered(made: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([piece async for piece in made])


def streamed(dialect: Dialect[Any], asked: Any, pieces: Sequence[bytes], end: Relayed) -> bytes:
    stream = RelayStream(Held(100, AT_MS), _parts(pieces, end), _Source())
    return LOOP.run_until_complete(_gathered(dialect.events(asked, stream, "claude-sonnet-5-5", FACTS)))


def readable(sent: bytes) -> None:
    """Check that each event of a stream is JSON."""
    for line in sent.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            assert isinstance(json.loads(line.removeprefix(b"data: ")), dict)


@numbers
@given(data=st.data())
def test_any_whole_answer_is_told_or_unreadable(number: int, data: st.DataObject) -> None:
    dialect, models, requests, answers, _ = DIALECTS[number]
    asked = dialect.asked(json.dumps(data.draw(st.sampled_from(requests))).encode(), models, KEY)
    body = data.draw(bodies(answers))
    with suppress(UnreadableAnswerError):
        made = dialect.whole(asked, relayed(body))
        # What is passed on as it came is as readable as it came.
        if not isinstance(dialect, ChatOverChat):
            assert isinstance(json.loads(made), dict)


@numbers
@given(data=st.data())
def test_any_stream_is_told_the_same_however_it_is_cut(number: int, data: st.DataObject) -> None:
    dialect, models, requests, _, answers = DIALECTS[number]
    asked = dialect.asked(json.dumps(data.draw(st.sampled_from(requests))).encode(), models, KEY)
    sent, at = data.draw(events(answers)), data.draw(places)
    end = data.draw(
        st.sampled_from([relayed(), relayed(), relayed(ending=Ending.BROKEN), relayed(b'{"error":{}}', status=400)])
    )
    whole = streamed(dialect, asked, [sent], end)
    assert streamed(dialect, asked, list(cut(sent, at)), end) == whole
    if not isinstance(dialect, ChatOverChat):
        readable(whole)


@numbers
@given(st.integers(400, 599), st.one_of(bodies([*MESSAGES[-2:], *CHAT_MESSAGES[-3:]]), st.binary(max_size=60)))
def test_any_refusal_is_told(number: int, status: int, body: bytes) -> None:
    dialect, models, requests, _, _ = DIALECTS[number]
    asked = dialect.asked(json.dumps(requests[0]).encode(), models, KEY)
    told = json.loads(msgspec.json.encode(dialect.error(status, body, "req_a")))
    assert isinstance(told["error"], dict) and told["requestId"] == "req_a"
    readable(dialect.refused(asked, told, "tiny", AT_MS // 1_000, "req_a"))


@given(st.one_of(bodies(MESSAGES), bodies(CHAT_MESSAGES), st.binary(max_size=60)))
def test_the_cost_is_put_into_any_answer_that_has_a_place_for_it(body: bytes) -> None:
    made = with_cost(body, {"cost_msat": 5})
    try:
        before = json.loads(body)
    except (ValueError, RecursionError):
        return
    try:
        after = json.loads(made)
    except ValueError:
        pytest.fail("the cost broke the answer")
    if after != before:
        assert after["usage"].pop("cost_msat") == 5
        assert {**before, "usage": 0} == {**after, "usage": 0}


@given(events(STREAMS), places)
def test_events_that_wait_for_the_cost_all_come(sent: bytes, at: list[int]) -> None:
    waiting = LastUsage()
    blank = [place for place in range(2, len(sent)) if sent[place - 2 : place] == b"\n\n"]
    ends = sorted({blank[place % len(blank)] for place in at}) if blank else []
    made = b"".join(waiting.pass_on(piece) for piece in cut(sent, ends)) + waiting.end()
    assert made == sent


@pytest.mark.parametrize("number", [0, 2])
def test_arguments_that_are_not_utf_8_are_told(number: int) -> None:
    dialect, models, requests, _, _ = DIALECTS[number]
    asked = dialect.asked(json.dumps(requests[0]).encode(), models, KEY)
    block = b'{"type":"tool_use","id":"toolu_1","name":"weather","input":{"\xed\xa0\x80":1}}'
    body = b'{"id":"msg_1","type":"message","model":"m","stop_reason":"tool_use","content":[%b]}' % block
    assert "weather" in dialect.whole(asked, relayed(body)).decode()
    event = b'data: {"type":"content_block_start","index":0,"content_block":%b}\n\n' % block
    assert "weather" in streamed(dialect, asked, [event], relayed()).decode()
