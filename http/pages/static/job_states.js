// What a job looks like in each of its states, and what one does next.

import { copyButton, h, note, sats, saveFile, usd } from "./dom.js";
import { markdown } from "./markdown.js";
import { invoiceCard, satsText } from "./pay.js";
import { refundPanel } from "./refund.js";

const HEADLINES = {
  awaiting_eval_payment: "Pay for the evaluation",
  evaluating: "Your request is being read",
  awaiting_work_payment: "Your work has a price",
  executing: "The work is under way",
  complete: "Here is your result",
  rejected: "The request was rejected",
  failed: "The job failed",
  expired: "The time to pay was over",
};

export const headline = (status) => HEADLINES[status.state] ?? "Your job";

export function stepOf(status) {
  const reached = { awaiting_eval_payment: 0, evaluating: 0, awaiting_work_payment: 1, executing: 2, complete: 4, rejected: 1 }[status.state];
  const done = reached ?? (status.workInvoice ? 1 : 0);
  // A job that has ended without a result is in no step any more.
  return { done, now: ["complete", "rejected", "failed", "expired"].includes(status.state) ? (status.state === "complete" ? 3 : -1) : done };
}

export function body(status, view) {
  const parts = BODIES[status.state]?.(status, view) ?? [h("p", {}, `The job is ${status.state}.`)];
  return [...parts, view.text && ownText(view.text, status.state !== "complete")].flat().filter(Boolean);
}

const BODIES = {
  awaiting_eval_payment: (status, { context }) => [
    h("p", {}, "A model then looks at your request and names the price of the work. This fee is kept if it rejects the request."),
    invoiceCard(status.evalInvoice, { what: "Evaluation", context }),
  ],
  evaluating: (status) => [waiting(status, "Paid. A model looks at your request and names its price; that takes some seconds.")],
  awaiting_work_payment: (status, { context }) => [
    invoiceCard(status.workInvoice, { what: "The work", context }),
    why(status.pricingBreakdown),
  ],
  executing: (status) => [waiting(status, "Paid. The model is writing. You can close this page and come back: the work goes on."), why(status.pricingBreakdown)],
  complete: (status, view) => [
    h("div", { class: "result" }, markdown(status.result || "")),
    h("div", { class: "row" }, copyButton(status.result || "", "Copy", "the result"), h("button", { type: "button", onclick: () => download(status) }, "Download")),
    owed(status, view), costs(status), why(status.pricingBreakdown),
  ],
  rejected: (status, view) => [
    note("bad", "The model gave this reason:", h("p", { class: "quoted", dir: "auto" }, status.reason || "None.")),
    h("p", {}, `The evaluation\u2019s ${satsText(status.evalInvoice.amountSats)} are kept: it was done. Nothing else is charged.`),
    again(view, "Change the request, and try again"), owed(status, view),
  ],
  failed: (status, view) => [
    note("bad", "Nothing is charged for work that failed.", h("p", { class: "quoted", dir: "auto" }, status.errorMessage || "The server gave no reason.")),
    owed(status, view) ?? h("p", {}, "Nothing is owed to you."),
    again(view, "Try it again as a new job", !status.refund?.payableSats),
  ],
  expired: (status, view) => [
    note("bad", status.workInvoice ? "The work was not paid for in time." : "The evaluation was not paid for in time.", "Do not pay its invoice any more. If you did pay in the last moment, your payment counts, and this page goes on by itself."),
    again(view, "Begin again"), owed(status, view),
  ],
};

function waiting(status, text) {
  return h("p", { class: "waiting", role: "status" }, status.waitingFor === "model"
    ? "The model is away just now. Your job waits for it, and goes on by itself; if it stays away too long, you get your money back." : text);
}

function again(view, name, first = true) {
  return h("div", { class: "row" }, h("button", { type: "button", class: first ? "primary" : "", onclick: () => view.again(view.text) }, name));
}

function owed(status, { id, context }) {
  return status.refund && status.refund.state !== "none" ? refundPanel(`/jobs/${id}`, status.refund, context) : null;
}

function ownText(text, open) {
  return h("details", { open: open && text.length < 600 }, h("summary", {}, "Your request"), h("div", {}, h("p", { class: "quoted", dir: "auto" }, text)));
}

function why(breakdown) {
  if (!breakdown) return null;
  const at = new Date(breakdown.btcPriceAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const count = (tokens) => `${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`;
  const source = breakdown.btcPriceSource === "coingecko" ? `CoinGecko\u2019s price of ${at}` : "a price that the operator set";
  return h("details", {}, h("summary", {}, "Why this price?"), h("div", {},
    h("p", {}, `${breakdown.model} is expected to read ${count(breakdown.estimatedInputTokens)} and to write ${count(breakdown.estimatedOutputTokens)}. (A token is about three quarters of a word.) Its provider takes ${exact(breakdown.modelCostUsd)} for that, and this server costs ${exact(breakdown.infraCostUsd)}.`),
    h("p", {}, `With a margin of ${breakdown.marginPct} % and a bitcoin at ${dollars(breakdown.btcPriceUsd)} (${source}) that makes ${satsText(breakdown.amountSats)}, rounded up.`),
    h("p", {}, "If the work costs less, the rest is yours. If it costs more, that is the operator\u2019s loss, not yours.")));
}

function costs(status) {
  const ledger = status.costLedger;
  if (!ledger) return null;
  const row = (name, value) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "sum-of" }, value));
  const cache = ledger.cacheReadTokens + ledger.cacheWriteTokens;
  return h("details", { open: true }, h("summary", {}, "What it cost"), h("div", {}, h("table", { class: "ledger" }, h("tbody", {},
    row("Paid for the work", sats(ledger.paidMsat)),
    row("The work cost", sats(ledger.chargedMsat)),
    row("Yours again", sats(ledger.refundMsat)),
    row("Paid for the evaluation", satsText(status.evalInvoice.amountSats)),
    row("Cost at the provider", exact(ledger.actualCostUsd)),
    row("Tokens read", ledger.actualInputTokens.toLocaleString("en")),
    row("Tokens written", ledger.actualOutputTokens.toLocaleString("en")),
    cache > 0 && row("Tokens from and to the cache", cache.toLocaleString("en")),
    row("Model", ledger.model)))));
}

// The server's decimals as they are: a rounded one would not be what was charged.
const exact = (text) => `$${text}`;
const dollars = (text) => Number(text).toLocaleString("en", { style: "currency", currency: "USD", maximumFractionDigits: 0 });

const download = (status) => saveFile(`satmeter-${status.jobId.slice(4, 12)}.md`, status.result || "", "text/markdown");
