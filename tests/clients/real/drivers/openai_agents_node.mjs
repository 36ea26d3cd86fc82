// OpenAI's Agents SDK for Node, by both APIs.
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from "@openai/agents";
import { z } from "zod";
import { BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, check, fails, run } from "./cases.mjs";

setTracingDisabled(true);
const useResponses = WAY !== "chat_completions";
const weather = tool({
  name: "weather",
  description: "The weather of a city",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => (city === "Rome" ? WEATHER : city),
});
const agent = new Agent({ name: "Helper", instructions: "Help.", model: HAIKU, tools: [weather] });
const runner = (apiKey = KEY) =>
  new Runner({ modelProvider: new OpenAIProvider({ apiKey, baseURL: `${SERVER}/v1`, useResponses }) });

await run({
  async answer() {
    const { finalOutput } = await runner().run(agent, QUESTION);
    check(finalOutput.includes("sextant"), finalOutput);
  },
  async stream() {
    const result = await runner().run(agent, QUESTION, { stream: true });
    const pieces = [];
    for await (const piece of result.toTextStream()) pieces.push(piece);
    await result.completed;
    check(pieces.length > 1 && pieces.join("").includes("sextant"), pieces);
  },
  async tools() {
    const { finalOutput } = await runner().run(agent, CALL);
    check(finalOutput.includes(WEATHER), finalOutput);
  },
  async 401() {
    await fails(runner(BAD_KEY).run(agent, QUESTION), 401);
  },
  async 402() {
    const error = await fails(runner(EMPTY_KEY).run(agent, QUESTION), 402);
    check(error.message.includes("top up"), error.message);
  },
});
