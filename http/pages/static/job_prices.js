// Prices before anything is paid: of the evaluation, and examples of the work by the operator's own estimates.

import { call } from "./api.js";
import { h, note, show, usd } from "./dom.js";
import { satsText } from "./pay.js";

const SIZES = { small: "A short answer", medium: "A page or two", large: "A long piece" };
const BYTES_PER_TOKEN = 2;
const WORDS_PER_TOKEN = 0.75;

export function examples(context) {
  const root = h("div", { class: "job-prices" });
  let pricing = null;
  let text = "";

  function render() {
    const price = (amount, about) => h("td", { class: "sum-of" }, about + satsText(amount), context.btcUsd > 0 && h("span", { class: "hint" }, usd((amount / 1e8) * context.btcUsd)));
    const fee = pricing?.evalFeeSats ?? context.evalFeeSats;
    const rows = pricing ? Object.entries(SIZES).filter(([size]) => pricing.tiers[size]).map(([size, name]) => h("tr", {},
      h("td", {}, name, h("span", { class: "hint" }, words(pricing.tiers[size].outputTokens))), price(example(pricing, size, text), "about "))) : [];
    show(root, h("table", {}, h("caption", { class: "read-out" }, "Prices"), h("tbody", {},
      h("tr", {}, h("td", {}, h("strong", {}, "Now: the evaluation"), h("span", { class: "hint" }, "Kept if the request is rejected.")), price(fee, "")),
      rows.length > 0 && h("tr", {}, h("td", { colspan: "2" }, h("strong", {}, "Then: the work, by its size"), h("span", { class: "hint" }, "Examples. You see the exact price before you pay it."))), rows)));
  }

  async function load() {
    try {
      pricing = await call("GET", "/pricing");
      render();
    } catch {
      root.append(note("", "The example prices did not load.", "The exact price comes after the evaluation, before you pay for the work."));
    }
  }

  render();
  load();
  return { root, of: (next) => { text = next; if (pricing) render(); } };
}

function words(tokens) {
  const count = tokens * WORDS_PER_TOKEN;
  const step = count < 1000 ? 50 : 500;
  return `about ${Math.max(step, Math.round(count / step) * step).toLocaleString("en")} words`;
}

function example(pricing, size, text) {
  // An example for the eye; the price that counts is computed by the server, exactly.
  const tier = pricing.tiers[size];
  const model = pricing.models.find((each) => each.model === pricing.workModel);
  const input = Math.max(tier.inputTokens, new TextEncoder().encode(text).length / BYTES_PER_TOKEN);
  const long = model.longPromptRates && input > model.longPromptRates.thresholdTokens ? model.longPromptRates : model.rates;
  const cost = (input * Number(long.input) + tier.outputTokens * Number(long.output)) / 1e6 + Number(model.perRequestUsd || 0) + Number(pricing.infraCostUsd);
  return Math.max(1, Math.ceil((cost * (1 + Number(pricing.marginPct) / 100) * 1e8) / Number(pricing.btcPrice.usd)));
}
