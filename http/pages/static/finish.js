// The end of a session: what is left goes to an invoice, a Lightning address, or a wallet that scans a code.

import { call, every, isUnknown, newKey } from "./api.js";
import { copyButton, freshId, h, note, sats, show } from "./dom.js";
import { retire } from "./keyring.js";
import { failed } from "./pay.js";
import { OVER, isDone, look, newSession } from "./session.js";

const LOOK_EVERY_MS = 1200;
const SETTLED = new Set(["paid", "none"]);

export function finishPanel(panels) {
  const over = OVER.has(panels.status().state);
  const root = h("div");
  const { refund } = panels.status();
  const asked = refund.withdraw || refund.state === "pending" || SETTLED.has(refund.state);
  if (over && (asked || !refund.payableSats)) follow(root, panels, panels.status());
  else order(root, panels, over);
  if (over) return root;
  // What can be paid out changes with each answer.
  const details = h("details", { ontoggle: () => { if (details.open) root.tell(); } }, h("summary", {}, "Finish, and take the rest back"), h("div", {}, root));
  return details;
}

function order(root, panels, over) {
  const { context, session, status, onClosed } = panels;
  const { refund } = status();
  const hint = h("p", { class: "hint", id: "refund-hint" });
  root.tell = () => {
    const { payableSats } = status().refund;
    const most = payableSats ? ` An invoice may be over ${payableSats.toLocaleString("en")} sats at most.` : "";
    hint.textContent = `Such as you@wallet.example, or an invoice that begins with ln.${most}`;
  };
  root.tell();
  const path = `/sessions/${session.sessionId}`;
  const told = h("div");
  const field = h("input", { type: "text", id: "refund-to", value: context.refundTo ?? "", autocomplete: "off", autocapitalize: "none", autocorrect: "off", inputmode: "email", spellcheck: "false", "aria-describedby": "refund-hint" });
  let once = newKey();
  let asked = "";

  async function carryOut(what, work) {
    // An address makes another invoice each time: only the same key is the same payout.
    if (asked && asked !== what) once = newKey();
    asked = what;
    const buttons = [...root.querySelectorAll("button")];
    for (const each of buttons) each.disabled = true;
    show(told, h("p", { class: "waiting", role: "status" }, "One moment"));
    try {
      await work();
    } catch (error) {
      const found = await look(session).catch(() => null);
      if (found && OVER.has(found.state) && (!over || found.refund.state === "pending")) { onClosed(found); return; }
      if (!isUnknown(error)) once = newKey();
      failed(told, error);
    }
    for (const each of buttons) each.disabled = false;
  }

  const payTo = (text) => carryOut(text, async () => {
    // What the route did not cost mostly goes to the same address.
    if (text.includes("@")) context.refundTo = text;
    onClosed(await call("POST", `${path}/close`, { key: session.macaroon, body: { paymentRequest: text.replace(/^lightning:/i, "") }, once }));
  });
  const byCode = () => carryOut("code", async () => {
    onClosed(await call("POST", `${path}/withdraw`, { key: session.macaroon, once }));
  });
  const stubInvoice = () => carryOut("stub", async () => {
    const most = (await look(session)).refund.payableSats;
    const invoice = await call("POST", "/dev/stub/invoice", { body: { amountSats: Math.max(1, most) } });
    field.value = invoice.paymentRequest;
    show(told);
    field.focus();
  });
  show(root,
    over ? (refund.paidMsat ? note("good", `${sats(refund.paidMsat)} paid back.`, `${sats(refund.owedMsat)} were set aside for the route and not needed. They are yours, too.`)
      : h("p", {}, `You are owed ${sats(refund.owedMsat)}. Take it back to a wallet of yours.`))
      : h("p", {}, "This ends the session and pays what is left to your wallet. A small part is set aside for the route; what it did not cost comes back to you, too."),
    context.publicUrl && h("div", {}, h("p", {}, "The easy way: scan a code with your phone\u2019s wallet, and the money comes by itself."),
      h("div", { class: "row" }, h("button", { type: "button", class: "primary", onclick: byCode }, over ? "Show the code" : "Close, and show the code"))),
    h("form", { novalidate: true, onsubmit: (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text) payTo(text);
      else { show(told, note("bad", "Where shall it go?", "Enter your Lightning address, or an invoice of your wallet.")); field.focus(); }
    } },
      h("div", { class: "field" }, h("label", { for: "refund-to" }, "Lightning address or invoice"), field, hint),
      h("div", { class: "row" }, h("button", { type: "submit", class: context.publicUrl ? "" : "primary" }, over ? "Pay it back" : "Close, and pay it back"),
        context.stub && h("button", { type: "button", onclick: stubInvoice }, "Use an invoice of the stub"),
        over && h("button", { type: "button", class: "plain", onclick: () => newSession(panels.place, context) }, "Use another session"))),
    told);
}

function codeCard(code) {
  const id = freshId("take-back");
  return h("section", { class: "invoice", "aria-labelledby": id },
    // The picture's address is the operator's public one, which this page may not load from.
    h("img", { class: "qr", width: "240", height: "240", alt: "QR code to take the rest back with a wallet", src: new URL(code.qr).pathname }),
    h("div", {}, h("h3", { id }, "Scan this to take it back"), h("p", {}, "Your wallet shows the sum and fetches it. The code is money: show it to no one."),
      h("div", { class: "row" }, h("a", { class: "button primary", href: code.link }, "Open in a wallet"), copyButton(code.lnurl, "Copy", "the code"))));
}

function follow(root, panels, closed) {
  const { place, context, session, leave } = panels;
  const said = h("div");
  const code = closed.refund.withdraw;
  const picture = h("div", {}, code && codeCard(code));
  const start = h("button", { type: "button", class: "primary", onclick: () => { leave(); retire(session); newSession(place, context); } }, "Open a new session");
  const another = h("button", { type: "button", class: "plain", onclick: () => newSession(place, context) }, "Use another session");
  const byHand = h("button", { type: "button", class: "plain", onclick: () => order(root, panels, true) }, "By address or invoice instead");
  const retry = (text) => h("div", { class: "row" }, h("button", { type: "button", class: "primary", onclick: () => order(root, panels, true) }, text));
  show(root, picture, said, h("div", { class: "row" }, start, byHand, another));

  function tell(status) {
    panels.status = () => status;
    const { state, owedMsat, paidMsat, payableSats, failure, failureCode } = status.refund;
    const done = isDone(status);
    start.hidden = !done;
    another.hidden = done;
    byHand.hidden = done || !code || state === "pending";
    picture.hidden = done;
    if (failure && payableSats) show(said, note("bad", failureCode === "server_cannot_pay" ? "The server could not pay just now." : "The payment did not arrive.", failure, retry("Try again, or another way")));
    else if (state === "pending") show(said, h("p", { class: "waiting", role: "status" }, "Your money is on its way. You may close this page: it goes on without it."));
    else if (status.heldMsat) show(said, h("p", { class: "waiting", role: "status" }, "The last answer is being settled."));
    else if (state === "none") show(said, note("good", "Closed.", "Nothing was left to pay back."));
    else if (!payableSats) show(said, note("good", paidMsat ? `${sats(paidMsat)} paid back.` : "Closed.", owedMsat ? `The last ${sats(owedMsat)} are too little to be sent over Lightning.` : "Nothing is left here."));
    else if (paidMsat) show(said, note("good", `${sats(paidMsat)} paid back.`, `${sats(owedMsat)} were set aside for the route and not needed. They are yours, too.`, code ? null : retry("Take these, too")));
    else if (code) show(said, h("p", { class: "waiting", role: "status" }, "Waiting for your wallet."));
    else show(said, note("", `You are owed ${sats(owedMsat)}.`, retry("Take it back")));
    return done || Boolean(failure && payableSats);
  }
  let before = "";
  const step = (status) => {
    const { refund, heldMsat, pendingInvoices } = status;
    const now = JSON.stringify([refund.state, refund.paidMsat, refund.owedMsat, refund.payableSats, refund.failure, heldMsat, pendingInvoices.length]);
    if (now === before) return false;
    before = now;
    return tell(status);
  };
  if (!step(closed)) {
    const stop = every(LOOK_EVERY_MS, said, async () => { if (step(await look(session))) stop(); });
  }
}
