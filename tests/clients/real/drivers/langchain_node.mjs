// LangChain for Node, with each of its chat models. Their `maxRetries` is left as it is.
import { ChatAnthropic } from "@langchain/anthropic";
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, check, fails, run } from "./cases.mjs";

function model(apiKey = KEY) {
  if (WAY === "ChatAnthropic") return new ChatAnthropic({ model: HAIKU, apiKey, anthropicApiUrl: SERVER });
  const useResponsesApi = WAY !== "ChatOpenAI";
  return new ChatOpenAI({ model: HAIKU, apiKey, useResponsesApi, configuration: { baseURL: `${SERVER}/v1` } });
}

const weather = tool(({ city }) => (city === "Rome" ? WEATHER : city), {
  name: "weather",
  description: "The weather of a city",
  schema: z.object({ city: z.string() }),
});

await run({
  async answer() {
    const { text } = await model().invoke(QUESTION);
    check(text.includes("sextant"), text);
  },
  async stream() {
    const pieces = [];
    for await (const chunk of await model().stream(QUESTION)) if (chunk.text) pieces.push(chunk.text);
    check(pieces.length > 1 && pieces.join("").includes("sextant"), pieces);
  },
  async tools() {
    const bound = model().bindTools([weather]);
    const messages = [new HumanMessage(CALL)];
    const first = await bound.invoke(messages);
    messages.push(first);
    for (const call of first.tool_calls) messages.push(await weather.invoke(call));
    const { text } = await bound.invoke(messages);
    check(text.includes(WEATHER), text);
  },
  async 401() {
    await fails(model(BAD_KEY).invoke(QUESTION), 401);
  },
  async 402() {
    const error = await fails(model(EMPTY_KEY).invoke(QUESTION), 402);
    check(error.message.includes("top up"), error.message);
  },
});
