"""pydantic-ai, whose `openai:` is the Responses API."""

from cases import BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, case, check, fails, run
from pydantic_ai import Agent
from pydantic_ai.models import infer_model
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


def weather(city: str) -> str:
    """Tell the weather."""
    check(city == "Rome", city)
    return WEATHER


def agent(key=KEY):
    def provider(name):
        if name == "anthropic":
            return AnthropicProvider(api_key=key, base_url=SERVER)
        return OpenAIProvider(api_key=key, base_url=f"{SERVER}/v1")

    return Agent(infer_model(f"{WAY}{HAIKU}", provider), tools=[weather])


@case("answer")
def answer():
    found = agent().run_sync(QUESTION)
    usage = found.usage() if callable(found.usage) else found.usage
    check("sextant" in found.output and usage.output_tokens > 0, found)


@case("stream")
async def stream():
    async with agent().run_stream(QUESTION) as running:
        pieces = [piece async for piece in running.stream_text(delta=True, debounce_by=None)]
    check(len(pieces) > 1 and "sextant" in "".join(pieces), pieces)


@case("tools")
def tools():
    found = agent().run_sync(CALL).output
    check(WEATHER in found, found)


@case("401")
def unauthorized():
    fails(lambda: agent(BAD_KEY).run_sync(QUESTION), status=401)


@case("402")
def used_up():
    error = fails(lambda: agent(EMPTY_KEY).run_sync(QUESTION), status=402)
    check("top up" in str(error), error)


run()
