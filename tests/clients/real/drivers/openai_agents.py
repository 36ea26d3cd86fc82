"""OpenAI's Agents SDK, whose default is the Responses API."""

import os

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_default_openai_client,
)
from cases import BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, case, check, fails, run
from openai import AsyncOpenAI


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    check(city == "Rome", city)
    return WEATHER


def agent(key=KEY):
    client = AsyncOpenAI(base_url=f"{SERVER}/v1", api_key=key)
    if WAY == "chat_completions":
        return Agent("helper", model=OpenAIChatCompletionsModel(HAIKU, client), tools=[weather])
    set_default_openai_client(client, use_for_tracing=False)
    if key == KEY:
        return Agent("helper", instructions="Be brief.", model=HAIKU, tools=[weather])
    return Agent("helper", model=OpenAIResponsesModel(HAIKU, client))


@case("answer")
async def answer():
    found = (await Runner.run(agent(), QUESTION)).final_output
    check("sextant" in found, found)


@case("stream")
async def stream():
    running = Runner.run_streamed(agent(), QUESTION)
    seen = [event.data.type async for event in running.stream_events() if event.type == "raw_response_event"]
    check(seen.count("response.output_text.delta") > 1 and "sextant" in running.final_output, seen)


@case("tools")
async def tools():
    done = await Runner.run(agent(), CALL)
    check(WEATHER in done.final_output, done.final_output)
    streamed = Runner.run_streamed(agent(), CALL)
    async for _ in streamed.stream_events():
        pass
    check(WEATHER in streamed.final_output, streamed.final_output)


@case("401")
def unauthorized():
    fails(lambda: Runner.run(agent(BAD_KEY), QUESTION), status=401)


@case("402")
def used_up():
    error = fails(lambda: Runner.run(agent(EMPTY_KEY), QUESTION), status=402)
    check("top up" in str(error), error)


run()
