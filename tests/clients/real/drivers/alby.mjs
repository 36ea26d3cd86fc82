// Alby's lightning-tools, with a wallet that the stub node pays for.
import { fetch402, fetchWithL402 } from "@getalby/lightning-tools/402";
import { HAIKU, QUESTION, SERVER, WAY, check, pay, run } from "./cases.mjs";

let paid = 0;
const wallet = {
  async payInvoice({ invoice }) {
    paid += 1;
    return { preimage: await pay(invoice) };
  },
};
const fetchAndPay = WAY === "fetch402" ? fetch402 : fetchWithL402;

async function ask(text, options = {}, more = {}) {
  const body = JSON.stringify({ model: HAIKU, max_tokens: 200, messages: [{ role: "user", content: text }], ...more });
  const headers = { "content-type": "application/json" };
  return fetchAndPay(`${SERVER}/v1/messages`, { method: "POST", headers, body }, { wallet, ...options });
}

await run({
  async answer() {
    const first = await ask(QUESTION);
    check(first.status === 200 && (await first.text()).includes("sextant"), first.status);
    const { credentials } = first.payment;
    for (const _ of [1, 2]) check((await ask(QUESTION, { credentials })).status === 200, "another status");
    check(paid === 1, `${paid} payments for three answers`);
  },
  async stream() {
    const found = await ask(QUESTION, {}, { stream: true });
    check(found.status === 200 && (await found.text()).includes("message_stop"), found.status);
  },
  async 402() {
    const first = await ask("[[spend]]", {}, { max_tokens: 9_000 });
    check(first.status === 200, first.status);
    const { credentials } = first.payment;
    let status = 200;
    for (let call = 0; call < 40 && status === 200; call += 1)
      ({ status } = await ask("[[spend]]", { credentials }, { max_tokens: 9_000 }));
    check(status === 402, status);
    check((await ask(QUESTION)).status === 200, "that it does not pay again");
  },
});
