// OpenAI's SDK for Node; tools of chat completions by its own loop, `runTools`.
import OpenAI from "openai";
import { BAD_KEY, CALL, EMPTY_KEY, HAIKU, KEY, QUESTION, SERVER, WAY, WEATHER, check, fails, run } from "./cases.mjs";

const responses = WAY === "responses";
const client = (apiKey = KEY) => new OpenAI({ baseURL: `${SERVER}/v1`, apiKey });
const messages = [{ role: "user", content: QUESTION }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = ({ city }) => {
  check(city === "Rome", city);
  return WEATHER;
};

async function ask(key) {
  if (responses) return (await client(key).responses.create({ model: HAIKU, input: QUESTION })).output_text;
  return (await client(key).chat.completions.create({ model: HAIKU, messages })).choices[0].message.content;
}

async function toolsOfResponses() {
  const options = { model: HAIKU, tools: [{ type: "function", name: "weather", strict: false, parameters }] };
  const input = [{ role: "user", content: CALL }];
  const first = await client().responses.create({ ...options, input });
  const call = first.output.find((item) => item.type === "function_call");
  const output = weather(JSON.parse(call.arguments));
  input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output });
  return (await client().responses.create({ ...options, input })).output_text;
}

async function toolsOfChat() {
  const tool = { type: "function", function: { name: "weather", function: weather, parse: JSON.parse, parameters } };
  const runner = client().chat.completions.runTools({
    model: HAIKU,
    messages: [{ role: "user", content: CALL }],
    tools: [tool],
  });
  return runner.finalContent();
}

await run({
  async answer() {
    const found = await ask();
    check(found.includes("sextant"), found);
  },
  async stream() {
    const pieces = [];
    if (responses) {
      for await (const event of await client().responses.create({ model: HAIKU, input: QUESTION, stream: true }))
        if (event.type === "response.output_text.delta") pieces.push(event.delta);
    } else {
      for await (const chunk of await client().chat.completions.create({ model: HAIKU, messages, stream: true }))
        if (chunk.choices[0]?.delta.content) pieces.push(chunk.choices[0].delta.content);
    }
    check(pieces.length > 1 && pieces.join("").includes("sextant"), pieces);
  },
  async tools() {
    const found = await (responses ? toolsOfResponses() : toolsOfChat());
    check(found.includes(WEATHER), found);
  },
  async 401() {
    const error = await fails(ask(BAD_KEY), 401);
    check(error instanceof OpenAI.AuthenticationError, error.name);
  },
  async 402() {
    const error = await fails(ask(EMPTY_KEY), 402);
    check(error instanceof OpenAI.APIError && error.message.includes("top up"), error.message);
  },
});
