// The session: open it, pay for it, find it again. Once it is paid, chat.js takes over.

import { ApiError, call, every, isUnknown, mayPass, newKey, now } from "./api.js";
import { chat } from "./chat.js";
import { copyButton, h, note, sats, saveFile, show, twice, usd, wholeNumber } from "./dom.js";
import { all, choose, chosen, forget, guard, keep } from "./keyring.js";
import { sessionOf } from "./macaroon.js";
import { failed, invoiceCard } from "./pay.js";

const LOOK_EVERY_MS = 1200;
const AGAIN_EVERY_MS = 3000;
const EMPTY_KEPT_MS = 7 * 24 * 3_600_000;
export const OVER = new Set(["closed", "expired"]);

export const look = (session) => call("GET", `/sessions/${session.sessionId}`, { key: session.macaroon });
// A deposit that was not made, as far as the server knows.
export const isEmpty = (status) => OVER.has(status.state) && status.depositedMsat === 0 && !status.pendingInvoices.length;

// Nothing can be taken back under the key any more, and nothing is under way.
export function isDone({ state, heldMsat, pendingInvoices, refund }) {
  return OVER.has(state) && !heldMsat && !pendingInvoices.length && refund.state !== "pending" && !refund.payableSats;
}

export function download(session) {
  const text = `Satmeter key for ${location.origin}\nAnyone who has it can spend what is left, or take it back.\n\n${session.macaroon}\n`;
  saveFile(`satmeter-key-${session.sessionId.slice(4, 12)}.txt`, text, "text/plain");
  session.saved = true;
}

export const downloadButton = (session, props = {}) => h("button", { type: "button", onclick: () => download(session), ...props }, "Download the key");
export const copyKeyButton = (session) => copyButton(session.macaroon, "Copy the key", "", () => { session.saved = true; });

export async function sessionPanel(place, context) {
  const session = chosen();
  if (session) await resume(place, context, session);
  else depositForm(place, context);
}

// The server may learn of a payment later, after an outage: so a key that seems empty is kept for some days, out of sight.
function putAside(session, { depositedMsat, expiresAt }) {
  // A top-up may be paid at the very end of a session that took money.
  const since = depositedMsat ? Math.max(session.at, Date.parse(expiresAt) || 0) : session.at;
  if (Date.now() - since > EMPTY_KEPT_MS) forget(session);
}

export function newSession(place, context) {
  choose(null);
  guard(() => false);
  depositForm(place, context);
}

async function resume(place, context, session, onRefused) {
  try {
    const status = await look(session);
    if (isEmpty(status)) {
      putAside(session, status);
      newSession(place, context);
      return;
    }
    choose(session);
    // Its invoice may be over already: what was paid in the last moment is still to come.
    if (status.state === "awaiting_payment") awaitDeposit(place, context, session, status.pendingInvoices[0] ?? null);
    else chat(place, context, session, status);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // A narrowed key may ask and not look.
    if (error.code === "caveat_violated") { choose(session); chat(place, context, session, null); return; }
    if (onRefused) { onRefused(error); return; }
    const told = h("div");
    const gone = h("button", { type: "button", class: "plain" }, "Forget this key");
    const card = h("div", { class: "card" }, h("h2", {}, "Your session did not open"), told,
      h("div", { class: "row" },
        h("button", { type: "button", class: "primary", onclick: () => resume(place, context, session) }, "Try again"),
        downloadButton(session),
        h("button", { type: "button", class: "plain", onclick: () => newSession(place, context) }, "Use another session"),
        twice(gone, "Press again if you have a copy", () => { forget(session); sessionPanel(place, context); })));
    show(place, card);
    failed(told, error);
    if (!mayPass(error)) return;
    const stop = every(AGAIN_EVERY_MS, card, async () => {
      await look(session);
      stop();
      if (card.isConnected) await resume(place, context, session);
    });
  }
}

export function depositForm(place, context) {
  const told = h("div");
  const inUsd = (amount) => (context.btcUsd ? usd((amount / 1e8) * context.btcUsd) : "");
  const amounts = [500, 2000, 10_000].map((amount) => Math.min(Math.max(amount, context.minSats), context.maxSats));
  const own = h("input", { type: "text", inputmode: "numeric", id: "own-amount", autocomplete: "off", "aria-describedby": "own-amount-hint" });
  const kept = h("input", { type: "checkbox", id: "keep", "aria-describedby": "keep-hint" });
  kept.checked = true;
  const choices = h("div", { class: "choices" }, [...new Set(amounts)].map((amount, index) => h("label", {},
    h("input", { type: "radio", name: "amount", value: String(amount), checked: index === 0, onchange: () => { own.value = ""; } }),
    h("span", { class: "amount" }, amount.toLocaleString("en"), h("span", { class: "unit" }, " sats")), h("span", { class: "hint" }, inUsd(amount) || "\u00a0"))));
  const radios = [...choices.querySelectorAll("input")];
  let picked = radios[0];
  // One amount at a time looks chosen.
  own.addEventListener("input", () => {
    picked = radios.find((radio) => radio.checked) ?? picked;
    for (const radio of radios) radio.checked = radio === picked && !own.value.trim();
  });
  let once = newKey();
  let asked = 0;
  let busy = false;
  const button = h("button", { type: "submit", class: "primary" }, "Show the invoice");
  const form = h("form", { class: "card", novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (busy) return;
    const amountSats = own.value.trim() ? wholeNumber(own.value) : Number(new FormData(form).get("amount"));
    if (!Number.isInteger(amountSats) || amountSats < context.minSats || amountSats > context.maxSats) {
      show(told, note("bad", "This amount does not fit.", `Enter a whole number from ${context.minSats.toLocaleString("en")} to ${context.maxSats.toLocaleString("en")} sats.`));
      own.focus();
      return;
    }
    // The same amount again after a lost answer is the same session, not a second one.
    if (asked && asked !== amountSats) once = newKey();
    asked = amountSats;
    busy = true;
    // A button that is disabled would lose the focus.
    button.setAttribute("aria-disabled", "true");
    show(told, h("p", { class: "waiting", role: "status" }, "One moment"));
    try {
      const opened = await call("POST", "/sessions", { body: { amountSats }, once });
      const session = { macaroon: opened.macaroon, sessionId: opened.sessionId, at: Date.now() };
      choose(session);
      if (keep(session, kept.checked) === "page") saveFirst(place, context, session, opened.depositInvoice);
      else awaitDeposit(place, context, session, opened.depositInvoice);
    } catch (error) {
      if (!isUnknown(error)) once = newKey();
      failed(told, error);
      button.removeAttribute("aria-disabled");
    }
    busy = false;
  } },
    h("h2", {}, "How much do you want to put in?"),
    h("p", { class: "soft" }, "Each answer takes its price from this. What you don\u2019t use, you take back at any time."),
    h("fieldset", {}, h("legend", { class: "read-out" }, "Amount"), choices),
    h("div", { class: "field" }, h("label", { for: "own-amount" }, "Another amount in sats"), own,
      h("p", { class: "hint", id: "own-amount-hint" }, `From ${context.minSats.toLocaleString("en")} to ${context.maxSats.toLocaleString("en")}.`)),
    h("label", { class: "check" }, kept, h("span", {}, "Keep the key in this browser")),
    h("p", { class: "hint of-check", id: "keep-hint" }, "Ticked, because the key is your money: a closed tab must not lose it. On a computer that others use, untick this and download the key."),
    told, h("div", { class: "row" }, button));
  place.closest("main").classList.remove("talking");
  show(place, form, h("div", { class: "card panels" }, keptSessions(place, context), keyForm(place, context)));
}

// Several tabs, or an invoice that was paid after all: no key that this browser knows is out of reach.
function keptSessions(place, context) {
  const root = h("div");
  const looks = [];
  for (const session of all()) {
    const about = h("span", { class: "soft" }, "Looking");
    const when = new Date(session.at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const row = h("div", { class: "row kept" }, h("span", { class: "grow" }, `Session of ${when}`, h("br"), about),
      h("button", { type: "button", "aria-label": `Open the session of ${when}`, onclick: () => resume(place, context, session) }, "Open"));
    root.append(row);
    looks.push(() => look(session).then((status) => {
      if (isDone(status)) {
        putAside(session, status);
        row.remove();
      } else about.textContent = summary(status);
      if (!root.children.length) panel.remove();
    }).catch((error) => { about.textContent = unread(error); }));
  }
  // One after the other: there may be many, and an address may not ask too often.
  looks.reduce((before, next) => before.then(next), Promise.resolve());
  const panel = h("details", { open: true }, h("summary", {}, "Sessions in this browser"), h("div", {}, root));
  return root.children.length ? panel : null;
}

function unread(error) {
  if (error.code === "caveat_violated") return "A narrowed key";
  return error.status === 404 || error.status === 401 ? "Not known to this server" : "Not reached just now";
}

function summary(status) {
  if (status.state === "awaiting_payment") return "Not paid yet";
  const over = OVER.has(status.state);
  const { owedMsat, payableSats } = status.refund;
  if (!over) return `${sats(status.balanceMsat)} left`;
  return payableSats ? `Over, and ${sats(owedMsat)} are yours to take back` : "Over";
}

function keyForm(place, context) {
  const told = h("div");
  const field = h("textarea", { id: "own-key", rows: "3", autocomplete: "off", autocapitalize: "none", autocorrect: "off", spellcheck: "false", "aria-describedby": "own-key-hint" });
  const kept = h("input", { type: "checkbox" });
  kept.checked = true;
  return h("details", {}, h("summary", {}, "I have a key already"), h("div", {}, h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      // A downloaded file has sentences before the key.
      const words = field.value.trim().split(/\s+/);
      const macaroon = words[words.length - 1] || "";
      const session = { macaroon, sessionId: sessionOf(macaroon), at: Date.now(), saved: true };
      let refused = false;
      await look(session).catch((error) => {
        if (error.code === "caveat_violated") return;
        refused = true;
        failed(told, error);
      });
      if (refused) return;
      keep(session, kept.checked);
      await resume(place, context, session, (error) => failed(told, error));
    } catch (error) {
      show(told, note("bad", error.message, "Paste all of it, as it stands in the file that you downloaded."));
    }
  } }, h("div", { class: "field" }, h("label", { for: "own-key" }, "Key"), field, h("p", { class: "hint", id: "own-key-hint" }, "The last line of the file that you downloaded, or all of the file.")),
    h("label", { class: "check" }, kept, h("span", {}, "Keep the key in this browser")),
    told, h("button", { type: "submit" }, "Open the session"))));
}

// Where neither tab nor browser keeps anything, a reload loses the key, and with it what is paid.
function saveFirst(place, context, session, invoice) {
  const go = h("button", { type: "button", class: "primary", disabled: true, onclick: () => awaitDeposit(place, context, session, invoice) }, "Show the invoice");
  const sure = h("input", { type: "checkbox", onchange: () => { go.disabled = !sure.checked; } });
  const head = h("h2", { tabindex: "-1" }, "Save the key before you pay");
  show(place, h("div", { class: "card" }, head,
    h("p", {}, "This browser keeps nothing for this page. The key below is your money: without it, nobody can give it back to you."),
    h("pre", { class: "key", tabindex: "0", "aria-label": "The key" }, h("code", {}, session.macaroon)),
    h("div", { class: "row" }, downloadButton(session), copyKeyButton(session)),
    h("label", { class: "check" }, sure, h("span", {}, "I have saved the key")),
    h("div", { class: "row" }, go)));
  guard(() => !session.saved);
  head.focus();
}

function awaitDeposit(place, context, session, invoice) {
  const head = h("h2", { tabindex: "-1" }, "Pay once, then chat");
  const told = h("div");
  const where = {
    browser: "The key to this session is kept in this browser. Some browsers, Safari among them, forget it after a week without a visit: download a copy if you come back seldom.",
    tab: "The key is kept in this tab only, and closing the tab loses it. Download it before you pay.",
    page: "The key is on this page only, and a reload loses it. Download it before you pay.",
  };
  const card = h("div", { class: "card" }, head, invoice && invoiceCard(invoice, { what: "Deposit", context }), told,
    h("div", { class: "row" }, downloadButton(session),
      h("button", { type: "button", class: "plain", onclick: () => { stop(); newSession(place, context); } }, "Back")),
    h("p", { class: "soft small" }, where[session.where] ?? where.page));
  show(place, card);
  head.focus();
  guard(() => session.where !== "browser" && !session.saved);
  const late = () => note("bad", "The time of the invoice is over.", "If you have paid it, wait here: it counts as soon as the server sees it. If not, go back for a new one; this key stays in the list there.");
  if (!invoice) show(told, late());
  const stop = every(LOOK_EVERY_MS, card, async () => {
    const status = await look(session);
    show(told);
    if (isEmpty(status)) {
      stop();
      show(told, note("bad", "The invoice is over, and was not paid.", h("button", { type: "button", class: "primary", onclick: () => newSession(place, context) }, "Start again")));
    } else if (status.state !== "awaiting_payment") {
      stop();
      chat(place, context, session, status, { fresh: true });
    } else if (!status.pendingInvoices.length || Date.parse(status.pendingInvoices[0].expiresAt) < now()) show(told, late());
  }, (error) => failed(told, error));
}
