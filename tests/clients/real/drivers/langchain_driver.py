"""LangChain's chat models, with its agent for the tools."""

from cases import BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, case, check, fails, run
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


def model(key=KEY):
    if WAY == "ChatAnthropic":
        return ChatAnthropic(model=HAIKU, base_url=SERVER, api_key=key, max_tokens=500)
    responses = "use_responses_api" in WAY
    return ChatOpenAI(model=HAIKU, base_url=f"{SERVER}/v1", api_key=key, use_responses_api=responses, stream_usage=True)


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    check(city == "Rome", city)
    return WEATHER


@case("answer")
def answer():
    found = model().invoke(QUESTION)
    check("sextant" in found.text and found.usage_metadata["output_tokens"] > 0, found)


@case("stream")
def stream():
    chunks = list(model().stream(QUESTION))
    pieces = [chunk.text for chunk in chunks if chunk.text]
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    check(len(pieces) > 1 and "sextant" in "".join(pieces) and usage, chunks)


@case("tools")
def tools():
    done = create_agent(model(), [weather]).invoke({"messages": [{"role": "user", "content": CALL}]})
    check(WEATHER in done["messages"][-1].text, done)


@case("401")
def unauthorized():
    fails(lambda: model(BAD_KEY).invoke(QUESTION), status=401)


@case("402")
def used_up():
    error = fails(lambda: model(EMPTY_KEY).invoke(QUESTION), status=402)
    check("top up" in str(error), error)


run()
