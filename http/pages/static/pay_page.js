// Entry of the payment page: one invoice, until it is paid or over.

import { call } from "./api.js";
import { h, note, show } from "./dom.js";
import { invoiceCard, satsText } from "./pay.js";

const LOOK_EVERY_MS = 2000;
// A page that is left open must not ask for ever.
const LOOKS_MAX = 5400;
const main = document.querySelector("main");
const place = document.getElementById("payment");
const head = main.querySelector("h1");
const context = { stub: main.dataset.stub === "yes", btcUsd: Number(main.dataset.btcUsd) || 0 };
const trouble = h("div");
let shown = "";
let amountSats = 0;

function render(status) {
  if (shown === status.state) return;
  shown = status.state;
  if (status.state === "open") {
    amountSats = status.invoice.amountSats;
    show(place, h("div", { class: "card" }, invoiceCard(status.invoice, { what: "Lightning invoice", context, level: "h2", waiting: "Waiting for the payment. This page says when it is there." }), trouble));
    return;
  }
  const paid = status.state === "paid";
  head.textContent = paid ? "Paid" : "This invoice is over";
  document.title = `${head.textContent} \u00b7 Satmeter`;
  const sum = paid && amountSats ? `${satsText(amountSats)} arrived.` : "";
  show(place, note(paid ? "good" : "bad", sum || (paid ? "It arrived." : "Do not pay it."), paid ? main.dataset.paid : main.dataset.expired));
}

async function look(count, failures) {
  let pause = LOOK_EVERY_MS;
  try {
    render(await call("GET", `${location.pathname}/invoice`));
    show(trouble);
    failures = 0;
  } catch (error) {
    failures += 1;
    pause = Math.max(Math.min(LOOK_EVERY_MS * 2 ** failures, 30_000), error.retryAfter * 1000 || 0);
    show(trouble, note("bad", "The server does not answer.", "If you have paid, your payment counts. This page tries again by itself."));
  }
  if (shown !== "paid" && shown !== "expired" && count < LOOKS_MAX) setTimeout(() => look(count + 1, failures), pause);
}

// What is paid or over stays so.
if (main.dataset.state === "open") look(0, 0);
