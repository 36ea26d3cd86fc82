// Vercel's AI SDK with each of its providers.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, check, fails, run } from "./cases.mjs";

const [provider, address] = WAY.split(", ");
const baseURL = address === "address without /v1" ? SERVER : `${SERVER}/v1`;
function model(apiKey = KEY) {
  if (provider === "anthropic()") return createAnthropic({ baseURL, apiKey })(HAIKU);
  if (provider === "openai.chat()") return createOpenAI({ baseURL, apiKey }).chat(HAIKU);
  if (provider === "openai()") return createOpenAI({ baseURL, apiKey })(HAIKU);
  return createOpenAICompatible({ name: "satmeter", baseURL, apiKey, includeUsage: true })(HAIKU);
}
const weather = tool({
  description: "The weather somewhere.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => (city === "Rome" ? WEATHER : city),
});
// Without this, the second request of a tool's round names what the first one answered by its id alone.
const providerOptions = { openai: { store: false } };
const statusOf = (error) => error.statusCode;
const ask = (key) => generateText({ model: model(key), prompt: QUESTION, providerOptions, maxRetries: 0 });

await run({
  async answer() {
    const found = await ask();
    check(found.text.includes("sextant") && found.usage.outputTokens > 0, found.text);
  },
  async stream() {
    const pieces = [];
    const streaming = streamText({ model: model(), prompt: QUESTION, providerOptions });
    for await (const piece of streaming.textStream) pieces.push(piece);
    const usage = await streaming.usage;
    check(pieces.length > 1 && pieces.join("").includes("sextant") && usage.outputTokens > 0, pieces);
  },
  async tools() {
    const asked = { model: model(), prompt: CALL, providerOptions, tools: { weather }, stopWhen: stepCountIs(3) };
    const found = await generateText(asked);
    check(found.text.includes(WEATHER), found.text);
    const streaming = streamText(asked);
    check((await streaming.text).includes(WEATHER), "no answer after the tool in a stream");
  },
  async 401() {
    await fails(ask(BAD_KEY), 401, statusOf);
  },
  async 402() {
    const error = await fails(ask(EMPTY_KEY), 402, statusOf);
    check(error.message.includes("top up"), error.message);
  },
});
