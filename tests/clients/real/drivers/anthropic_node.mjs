// Anthropic's SDK for Node; tools by its own loop, `toolRunner`.
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";
import { BAD_KEY, CALL, EMPTY_KEY, KEY, QUESTION, SERVER, SONNET, WEATHER, check, fails, run } from "./cases.mjs";

const client = (apiKey = KEY) => new Anthropic({ baseURL: SERVER, apiKey });
const asked = { model: SONNET, max_tokens: 500, messages: [{ role: "user", content: QUESTION }] };
const ask = async (key) => (await client(key).messages.create(asked)).content[0].text;

await run({
  async answer() {
    const found = await ask();
    check(found.includes("sextant"), found);
  },
  async stream() {
    const pieces = [];
    const stream = client().messages.stream(asked).on("text", (text) => pieces.push(text));
    const done = await stream.finalMessage();
    check(pieces.length > 1 && pieces.join("").includes("sextant") && done.usage.output_tokens > 0, pieces);
  },
  async tools() {
    const weather = betaZodTool({
      name: "weather",
      description: "The weather somewhere.",
      inputSchema: z.object({ city: z.string() }),
      run: ({ city }) => `${city === "Rome" ? WEATHER : city}`,
    });
    const messages = [{ role: "user", content: CALL }];
    const done = await client().beta.messages.toolRunner({ ...asked, messages, tools: [weather] });
    check(done.content[0].text.includes(WEATHER), done);
  },
  async 401() {
    const error = await fails(ask(BAD_KEY), 401);
    check(error instanceof Anthropic.AuthenticationError, error.name);
  },
  async 402() {
    const error = await fails(ask(EMPTY_KEY), 402);
    check(error instanceof Anthropic.APIError && error.message.includes("top up"), error.message);
  },
});
