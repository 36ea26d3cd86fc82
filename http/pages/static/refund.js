// What a job owes: taken back with a wallet's camera, the browser's wallet, an address, or an invoice.

import { call, isUnknown, newKey } from "./api.js";
import { copyButton, freshId, h, note, sats, show } from "./dom.js";
import { failed, satsText } from "./pay.js";
import { makeInvoice, withWebln } from "./webln.js";

const LOOK_EVERY_MS = 2000;
const WHY = {
  unreachable: "its server did not answer",
  used_invoice: "it gave an invoice that was used before",
  payment_failed: "its invoice could not be paid",
  server_cannot_pay: "this server\u2019s wallet can\u2019t pay just now",
  not_found: "there is no such address",
  amount_too_small: "it takes no sum as small as this",
};

export function refundPanel(path, refund, context) {
  const root = h("section", { class: "refund", "aria-labelledby": freshId("refund") });
  let before = "";
  let busy = false;
  // Outlive what is shown: an order whose answer was lost is repeated under its key, and typed text stays.
  let once = newKey();
  let asked = "";
  let typed = "";
  let known = "";

  const say = (next) => {
    const now = JSON.stringify(next);
    if (now === before) return;
    before = now;
    // The order has arrived: the next one is another payout.
    const outcome = JSON.stringify([next.state, next.paidMsat, next.failure]);
    if (outcome !== known) once = newKey();
    known = outcome;
    const had = root.contains(document.activeElement);
    show(root, ...parts(next));
    if (had) root.querySelector("h3")?.focus();
  };

  const look = async () => {
    // Ends with its element.
    if (!root.isConnected) return;
    try {
      if (!busy) say((await call("GET", path)).refund ?? refund);
    } catch { /* The next look may do better. */ }
    if (!ended(JSON.parse(before))) setTimeout(look, LOOK_EVERY_MS);
  };

  function parts(now) {
    const title = h("h3", { id: root.getAttribute("aria-labelledby"), tabindex: "-1" }, titleOf(now));
    const failure = now.failure && note("bad", now.failure);
    if (now.state === "pending") return [title, h("p", { class: "waiting", role: "status" }, "Your money is on its way.")];
    if (!now.payableSats) return [title, failure, restOf(now)];
    return [title, failure, standing(now), ...ways(now)];
  }

  function ways(now) {
    const told = h("div");
    const id = freshId("refund-to");
    const field = h("input", { type: "text", id, value: typed, oninput: () => { typed = field.value; }, autocomplete: "off", autocapitalize: "none", autocorrect: "off", inputmode: "email", spellcheck: "false", "aria-describedby": `${id}-hint` });
    const buttons = h("div", { class: "row" }, h("button", { type: "submit", class: now.withdraw ? "" : "primary" }, "Pay it back"));

    const order = async (work) => {
      if (busy) return;
      busy = true;
      for (const each of root.querySelectorAll("button")) each.setAttribute("aria-disabled", "true");
      show(told, h("p", { class: "waiting", role: "status" }, "One moment"));
      try {
        const status = await work();
        if (status) once = newKey();
        show(told);
        if (status) { say(status.refund); return; }
      } catch (error) {
        // Without an answer, the same key asks for the same payout.
        if (!isUnknown(error) && ![425, 503].includes(error.status)) once = newKey();
        if (error instanceof WalletError) show(told, note("bad", "The browser\u2019s wallet made no invoice.", "Try again, or use one of the other ways."));
        else failed(told, error);
      } finally {
        busy = false;
        for (const each of root.querySelectorAll("button")) each.removeAttribute("aria-disabled");
      }
    };
    const payTo = (text) => {
      const paymentRequest = text.trim().replace(/^lightning:/i, "");
      // An address makes another invoice each time: only the same key is the same payout.
      if (asked && asked !== paymentRequest) once = newKey();
      asked = paymentRequest;
      return call("POST", `${path}/refund`, { body: { paymentRequest }, once });
    };

    const fromWallet = async () => payTo(await makeInvoice(now.payableSats, "Satmeter: refund of a job").catch(() => { throw new WalletError(); }));
    withWebln(() => buttons.append(h("button", { type: "button", onclick: () => order(fromWallet) }, "Take it into this browser\u2019s wallet")));
    if (context.stub) buttons.append(h("button", { type: "button", onclick: () => order(async () => {
      typed = (await call("POST", "/dev/stub/invoice", { body: { amountSats: now.payableSats } })).paymentRequest;
      field.value = typed;
    }) }, "Use an invoice of the stub"));

    return [
      now.withdraw && code(now.withdraw),
      h("form", { novalidate: true, onsubmit: (event) => {
        event.preventDefault();
        if (field.value.trim()) order(() => payTo(field.value));
        else { show(told, note("bad", "Where shall it go?", "Enter your Lightning address, or an invoice of your wallet.")); field.focus(); }
      } },
        h("div", { class: "field" }, h("label", { for: id }, "Lightning address or invoice"), field,
          h("p", { class: "hint", id: `${id}-hint` }, `Such as you@wallet.example, or an invoice over ${satsText(now.payableSats)} that begins with ln.`)),
        buttons),
      told,
    ];
  }

  say(refund);
  if (!ended(refund)) setTimeout(look, LOOK_EVERY_MS);
  return root;
}

class WalletError extends Error {}

// Nothing comes any more: neither of its own accord nor by a wallet.
const ended = (refund) => refund.state === "paid" || refund.state === "none";

function titleOf(refund) {
  if (refund.state === "pending") return "Paying you back";
  if (refund.payableSats) return refund.paidMsat ? `${sats(refund.paidMsat)} paid back, and more is yours` : "Take the rest back";
  return refund.paidMsat ? `${sats(refund.paidMsat)} paid back` : "What is left";
}

function restOf(refund) {
  if (!refund.owedMsat) return h("p", {}, "Nothing is left here.");
  return h("p", {}, `${sats(refund.owedMsat)} stay owed: that is too little for a payment of its own.`);
}

function standing(refund) {
  const sum = h("p", {}, `You are owed ${sats(refund.owedMsat)}. `, refund.payableSats * 1000 < refund.owedMsat
    ? `${satsText(refund.payableSats)} of it can be paid now; the rest is kept for the route, and what that does not cost is yours, too.` : "");
  if (!refund.destination) return sum;
  const why = refund.lastError ? ` The last try failed: ${WHY[refund.lastError] || "it did not take the payment"}.` : "";
  const when = refund.nextAttemptAt ? ` The next one is at ${new Date(refund.nextAttemptAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}.` : "";
  return h("div", {}, sum, h("p", {}, "It is paid to ", h("strong", {}, refund.destination), " by itself.", why, when));
}

function code(withdraw) {
  const id = freshId("take-back");
  return h("section", { class: "invoice", "aria-labelledby": id },
    // The picture's address is the operator's public one, which this page may not load from.
    h("img", { class: "qr", width: "240", height: "240", alt: "QR code to take the rest back with a wallet", src: new URL(withdraw.qr).pathname }),
    h("div", {}, h("h4", { id }, "Scan this to take it back"), h("p", {}, "Your wallet shows the sum and fetches it. The code is money: show it to no one."),
      h("div", { class: "row" }, h("a", { class: "button primary", href: withdraw.link }, "Open in a wallet"), copyButton(withdraw.lnurl, "Copy", "the code"))));
}
