// Top-ups in the middle of a conversation.

import { call, every, isUnknown, newKey, now } from "./api.js";
import { h, note, show, wholeNumber } from "./dom.js";
import { failed, invoiceCard } from "./pay.js";
import { OVER, look } from "./session.js";

const LOOK_EVERY_MS = 1200;
// The server's clock is known to the second: an invoice that ends just now must not be called paid.
const JUST_NOW_MS = 3000;

export function topUpForm(place, context, session, talk, onPaid) {
  const told = h("div");
  const field = h("input", { type: "text", inputmode: "numeric", id: "top-up", autocomplete: "off", value: String(Math.min(Math.max(1000, context.minSats), context.maxSats)), "aria-describedby": "top-up-hint" });
  const button = h("button", { type: "submit", class: "primary" }, "Show the invoice");
  let once = newKey();
  let asked = 0;
  let busy = false;
  const form = h("form", { novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (busy) return;
    const amountSats = wholeNumber(field.value);
    if (!Number.isInteger(amountSats) || amountSats < context.minSats || amountSats > context.maxSats) {
      show(told, note("bad", "This amount does not fit.", `Enter a whole number from ${context.minSats.toLocaleString("en")} to ${context.maxSats.toLocaleString("en")} sats.`));
      field.focus();
      return;
    }
    if (asked && asked !== amountSats) once = newKey();
    asked = amountSats;
    busy = true;
    // A button that is disabled would lose the focus.
    button.setAttribute("aria-disabled", "true");
    show(told, h("p", { class: "waiting", role: "status" }, "One moment"));
    try {
      const { topUpInvoice } = await call("POST", `/sessions/${session.sessionId}/topup`, { key: session.macaroon, body: { amountSats }, once });
      payTopUp(place, context, session, talk, topUpInvoice, onPaid);
    } catch (error) {
      if (!isUnknown(error)) once = newKey();
      failed(told, error);
      button.removeAttribute("aria-disabled");
    }
    busy = false;
  } }, h("div", { class: "field" }, h("label", { for: "top-up" }, "Sats to add"), field,
      h("p", { class: "hint", id: "top-up-hint" }, `From ${context.minSats.toLocaleString("en")} to ${context.maxSats.toLocaleString("en")}.`)), told,
    h("div", { class: "row" }, button, h("button", { type: "button", class: "plain", onclick: () => show(place) }, "Not now")));
  const card = h("div", { class: "note top-up" }, form);
  show(place, card);
  // Browsers take a field that lies behind another for visible, and do not scroll to it when it gets the focus.
  field.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
  field.select();
}

export function payTopUp(place, context, session, talk, invoice, onPaid) {
  talk.keepTopUp(invoice);
  const told = h("div");
  const card = h("div", { class: "note" }, invoiceCard(invoice, { what: "Top-up", context }), told,
    h("div", { class: "row" }, h("button", { type: "button", class: "plain", onclick: () => { stop(); talk.putAside(invoice); show(place); } }, "Not now")));
  show(place, card);
  card.scrollIntoView({ block: "nearest" });
  const stop = every(LOOK_EVERY_MS, card, async () => {
    const status = await look(session);
    show(told);
    if (status.pendingInvoices.some((pending) => pending.paymentHash === invoice.paymentHash)) return;
    stop();
    talk.keepTopUp(null);
    const over = Date.parse(invoice.expiresAt) < now() + JUST_NOW_MS;
    if (over || OVER.has(status.state)) show(told, note("bad", "The time of the invoice is over.", "If you have paid it, the balance shows it. If not, close this and ask for a new one."));
    else show(place, note("good", "Paid.", "Go on where you were."));
    onPaid(status);
  }, (error) => failed(told, error));
}

// After a reload: the invoice that is open still, or that its payment has arrived meanwhile. None is ordered.
export function findTopUp(place, context, session, talk, status, onPaid) {
  const kept = talk.topUp;
  const isOver = (invoice) => Date.parse(invoice.expiresAt) < now() + JUST_NOW_MS;
  const open = status.pendingInvoices.filter((invoice) => !isOver(invoice) && !talk.aside.includes(invoice.paymentHash));
  const invoice = kept ? open.find((each) => each.paymentHash === kept.paymentHash) : open.at(-1);
  if (invoice) payTopUp(place, context, session, talk, invoice, onPaid);
  else if (kept) {
    talk.keepTopUp(null);
    // Only a payment takes an invoice away before its time is over. Later, the balance alone says what came.
    if (!isOver(kept)) show(place, note("good", "Paid.", "The top-up is in your balance."));
  }
}
