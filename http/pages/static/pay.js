// The card of one invoice: QR code, link, copy, and the ways to pay from this page.

import { advice, call, now } from "./api.js";
import { copyButton, freshId, h, note, show, usd } from "./dom.js";
import { pay, withWebln } from "./webln.js";

export const satsText = (amount) => `${amount.toLocaleString("en")} ${amount === 1 ? "sat" : "sats"}`;

export function pagePath(invoice) {
  // The address is the operator's public one, which this page may not load from.
  return new URL(invoice.payPage, location.href).pathname;
}

export function invoiceCard(invoice, { what, context, waiting = "Waiting for the payment. This page goes on by itself.", level = "h3" }) {
  const told = h("div");
  const id = freshId("invoice");
  const price = context.btcUsd ? usd((invoice.amountSats / 1e8) * context.btcUsd) : "";
  const ways = h("div", { class: "row" },
    h("a", { class: "button primary", href: `lightning:${invoice.paymentRequest}` }, "Open in a wallet"), copyButton(invoice.paymentRequest, "Copy", "the invoice"));
  if (context.stub) ways.append(stubButton(invoice, told));
  withWebln(() => ways.append(weblnButton(invoice, told)));
  const payable = h("div", {}, h("p", {}, "Scan the code with a Lightning wallet, or open one on this device."), ways);
  const left = h("p", { class: "soft small" });
  const code = h("img", { class: "qr", width: "240", height: "240", alt: "QR code of the invoice, for a Lightning wallet", src: `${pagePath(invoice)}/qr.svg` });
  const status = h("p", { class: "waiting small", role: "status" }, waiting);
  const card = h("section", { class: "invoice", "aria-labelledby": id },
    code,
    h("div", {},
      h(level, { id, class: "soft what" }, what),
      h("p", { class: "sum" }, satsText(invoice.amountSats), price && h("span", { class: "soft small" }, ` about ${price}`)),
      payable, told, status, left));
  countDown(card, left, Date.parse(invoice.expiresAt), () => {
    for (const gone of [code, payable, status]) gone.hidden = true;
    show(told, note("bad", "The time to pay this is over.", "Do not pay it any more. If you have paid it, this page goes on by itself."));
  });
  return card;
}

function countDown(card, left, untilMs, onOver) {
  const tick = () => {
    const seconds = Math.ceil((untilMs - now()) / 1000);
    if (seconds > 0) { left.textContent = `Good for ${span(seconds)}.`; return true; }
    left.textContent = "";
    onOver();
    return false;
  };
  if (!tick()) return;
  const timer = setInterval(() => { if (!card.isConnected || !tick()) clearInterval(timer); }, 1000);
}

function span(seconds) {
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return seconds >= 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${seconds} s`;
}

function stubButton(invoice, told) {
  return h("button", { type: "button", onclick: once(async () => {
    try {
      await call("POST", `/dev/stub/pay/${invoice.paymentHash}`);
    } catch (error) {
      failed(told, error);
    }
  }) }, "Pay with the stub");
}

// A button that is disabled loses the focus, and a person without a mouse their place.
function once(act) {
  let busy = false;
  return async (event) => {
    if (busy) return;
    busy = true;
    const button = event.currentTarget;
    button.setAttribute("aria-disabled", "true");
    await act();
    button.removeAttribute("aria-disabled");
    busy = false;
  };
}

function weblnButton(invoice, told) {
  return h("button", { type: "button", onclick: once(async () => {
    show(told);
    try {
      await pay(invoice.paymentRequest);
    } catch {
      // What the wallet could not say is not a failure: it may have paid.
      show(told, note("bad", "The browser\u2019s wallet did not say that it paid.", "If it did, this page goes on by itself. Look in the wallet before you pay again."));
    }
  }) }, "Pay with this browser\u2019s wallet");
}

export function failed(place, error) {
  const { what, next } = advice(error);
  show(place, note("bad", what, next));
}
