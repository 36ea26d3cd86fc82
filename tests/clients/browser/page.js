import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
const URL_ = new URLSearchParams(location.search).get('server');
const MODEL = 'claude-haiku-5-5', messages = [{role: 'user', content: 'Name three uses of a sextant.'}];
const out = {};
const step = async (name, run) => { try { out[name] = await run(); } catch (e) { out[name] = 'FAILED ' + e.name + ': ' + e.message; } };
// A WebLN stand-in: the stub node pays.
const webln = {sendPayment: async (hash) => (await (await fetch(`${URL_}/dev/stub/pay/${hash}`, {method: 'POST'})).json())};
let key;
const body = JSON.stringify({model: MODEL, max_tokens: 300, messages});
const json = {'Content-Type': 'application/json'};
await step('l402', async () => {
  const challenge = await fetch(`${URL_}/v1/messages`, {method: 'POST', headers: json, body});
  const [, macaroon] = /^L402\s+macaroon="([^"]+)",\s*invoice="([^"]+)"/.exec(challenge.headers.get('WWW-Authenticate'));
  const {depositInvoice} = await challenge.json();
  const {preimage} = await webln.sendPayment(depositInvoice.paymentHash);
  const answer = await fetch(`${URL_}/v1/messages`, {method: 'POST', headers: {...json, Authorization: `L402 ${macaroon}:${preimage}`}, body});
  key = macaroon;
  return [challenge.status, answer.status, Number(answer.headers.get('Satmeter-Debited-Msat')) > 0, !!answer.headers.get('request-id')];
});
const anthropic = new Anthropic({baseURL: URL_, apiKey: key, dangerouslyAllowBrowser: true, maxRetries: 0});
const openai = new OpenAI({baseURL: URL_ + '/v1', apiKey: key, dangerouslyAllowBrowser: true, maxRetries: 0});
await step('anthropic', async () => (await anthropic.messages.create({model: MODEL, max_tokens: 300, messages})).content[0].type);
await step('anthropicStream', async () => { let n = 0; for await (const e of await anthropic.messages.create({model: MODEL, max_tokens: 300, messages, stream: true})) n++; return n > 3; });
await step('chat', async () => (await openai.chat.completions.create({model: MODEL, messages})).choices[0].finish_reason);
await step('chatStream', async () => { let n = 0; for await (const e of await openai.chat.completions.create({model: MODEL, messages, stream: true})) n++; return n > 3; });
await step('responses', async () => (await openai.responses.create({model: MODEL, input: 'Name three uses of a sextant.'})).status);
await step('badKey', async () => { try { await new Anthropic({baseURL: URL_, apiKey: 'bad', dangerouslyAllowBrowser: true}).messages.create({model: MODEL, max_tokens: 3, messages}); } catch (e) { return [e.status, !!e.requestID]; } });
await step('notFound', async () => (await fetch(`${URL_}/v1/none`, {method: 'POST', headers: json, body: '{}'})).status);
await step('metrics', async () => { try { await fetch(`${URL_}/metrics`); return 'readable'; } catch (e) { return e.name; } });
document.body.textContent = JSON.stringify(out);

await fetch('/result', {method: 'POST', body: JSON.stringify(out)});
