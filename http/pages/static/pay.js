// The card of one invoice: QR code, link, copy, and the ways to pay from this page.

import { advice, call } from "./api.js";
import { copyButton, freshId, h, note, show, usd } from "./dom.js";

export function invoiceCard(invoice, { what, context, waiting = "Waiting for the payment. This page goes on by itself." }) {
  const link = `lightning:${invoice.paymentRequest}`;
  const told = h("div");
  const until = new Date(invoice.expiresAt);
  const id = freshId("invoice");
  const price = context.btcUsd ? usd((invoice.amountSats / 1e8) * context.btcUsd) : "";
  const ways = h("div", { class: "row" }, h("a", { class: "button primary", href: link }, "Open in a wallet"), copyButton(invoice.paymentRequest, "Copy", "the invoice"));
  if (context.stub) ways.append(stubButton(invoice, told));
  if (window.webln) ways.append(weblnButton(invoice, told));
  return h("section", { class: "invoice", "aria-labelledby": id },
    h("img", { class: "qr", width: "240", height: "240", alt: "QR code of the invoice, for a Lightning wallet", src: `/pay/${invoice.paymentRequest}/qr.svg` }),
    h("div", {},
      h("h3", { id, class: "soft" }, what),
      h("p", { class: "sum" }, `${invoice.amountSats.toLocaleString("en")} ${invoice.amountSats === 1 ? "sat" : "sats"}`, price && h("span", { class: "soft small" }, ` about ${price}`)),
      h("p", {}, "Scan the code with a Lightning wallet, or open one on this device."),
      ways, told,
      h("p", { class: "waiting small", role: "status" }, waiting),
      h("p", { class: "soft small" }, `The invoice is good until ${until.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}.`)));
}

function stubButton(invoice, told) {
  const button = h("button", { type: "button", onclick: async () => {
    button.disabled = true;
    try {
      await call("POST", `/dev/stub/pay/${invoice.paymentHash}`);
    } catch (error) {
      button.disabled = false;
      failed(told, error);
    }
  } }, "Pay with the stub");
  return button;
}

function weblnButton(invoice, told) {
  return h("button", { type: "button", onclick: async () => {
    try {
      await window.webln.enable();
      await window.webln.sendPayment(invoice.paymentRequest);
    } catch {
      show(told, note("bad", "The browser's wallet did not pay.", "Scan the code with another wallet, or try again."));
    }
  } }, "Pay with this browser's wallet");
}

export function failed(place, error) {
  const { what, next } = advice(error);
  show(place, note("bad", what, next));
}
