// What one does with the key of a session: keep it, narrow it for a helper, use it in programs.

import { now } from "./api.js";
import { copyButton, h, note, show, twice, wholeNumber } from "./dom.js";
import { forget, keep } from "./keyring.js";
import { narrow } from "./macaroon.js";
import { programs } from "./programs.js";
import { copyKeyButton, downloadButton, newSession } from "./session.js";

export { finishPanel } from "./finish.js";

const MANY = /^[1-9][0-9]{0,8}$/;
// A name goes into the ledger; a comma or a quotation mark in it would be part of it.
const NAME = /^[\x20-\x7e]*$/;

export const panel = (title, open, ...children) => h("details", { open }, h("summary", {}, title), h("div", {}, ...children));

function lines(name, text) {
  return h("div", { class: "lines" }, h("h3", {}, name), h("pre", { tabindex: "0", role: "region", "aria-label": `Lines for ${name}` }, h("code", {}, text)), copyButton(text, "Copy", `the lines for ${name}`));
}

export function keyPanel({ place, context, session, leave }) {
  const hint = h("p", { class: "hint of-check" });
  const kept = h("input", { type: "checkbox", onchange: () => {
    keep(session, kept.checked);
    tell();
  } });
  const tell = () => {
    kept.checked = session.where === "browser";
    hint.textContent = {
      browser: "A closed tab does not lose it. On a computer that others use, untick this and download the key.",
      tab: "It is in this tab alone. Download it before you close the tab.",
      page: "This browser keeps nothing for this page. Download it before you leave or reload.",
    }[session.where] ?? "";
  };
  tell();
  const gone = h("button", { type: "button", class: "plain" }, "Forget it here");
  return panel("Your key", false,
    h("p", {}, "The key opens this session from any device. It is like cash: anyone who has it can spend what is left."),
    h("label", { class: "check" }, kept, h("span", {}, "Keep the key in this browser")), hint,
    h("div", { class: "row" }, downloadButton(session), copyKeyButton(session)),
    h("div", { class: "row" },
      h("button", { type: "button", class: "plain", onclick: () => newSession(place, context) }, "Use another session"),
      // A lost key is lost money.
      twice(gone, "Without a copy the money is lost. Press again", () => { leave(); forget(session); newSession(place, context); })));
}

export function helperPanel({ session }) {
  const made = h("div");
  const name = h("input", { type: "text", id: "helper-name", maxlength: "64", autocomplete: "off" });
  const most = h("input", { type: "text", id: "helper-most", inputmode: "numeric", autocomplete: "off", "aria-describedby": "helper-most-hint" });
  const options = (choices) => choices.map(([value, text]) => h("option", { value }, text));
  const each = h("select", { id: "helper-each" }, options([["", "In all"], ["hour", "Each hour"], ["day", "Each day"], ["week", "Each week"]]));
  const hours = h("select", { id: "helper-hours" }, options([["", "As long as the session"], ["1", "One hour"], ["24", "One day"], ["168", "One week"]]));
  const only = h("input", { type: "checkbox" });
  only.checked = true;

  function caveats() {
    const amount = most.value.trim() && String(wholeNumber(most.value));
    if (amount && !MANY.test(amount)) throw Object.assign(new Error("The most it may spend does not fit."), { next: "Enter a whole number of sats, or leave it empty.", field: most });
    if (!NAME.test(name.value)) throw Object.assign(new Error("The name does not fit."), { next: "Use plain letters, digits and signs.", field: name });
    const found = [];
    if (name.value.trim()) found.push(`name = ${name.value.trim()}`);
    if (amount) found.push(each.value ? `max_msat_per = ${amount}000/${each.value}` : `max_msat = ${amount}000`);
    if (hours.value) found.push(`expires_at = ${Math.floor(now() / 1000) + Number(hours.value) * 3600}`);
    if (only.checked) found.push("actions = request,llm");
    if (!found.length) throw Object.assign(new Error("This would be the same key."), { next: "Limit at least one thing.", field: most });
    return found;
  }

  return panel("A key for a helper", false,
    h("p", {}, "Give an agent or a friend a key that can spend only so much. It is made here in the browser; the server learns of it when it is used."),
    h("form", { novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      try {
        const limits = caveats();
        const key = await narrow(session.macaroon, limits);
        show(made, h("div", { class: "note good", role: "status" }, h("strong", {}, "The helper\u2019s key"),
          h("pre", { class: "key", tabindex: "0", role: "region", "aria-label": "The helper\u2019s key" }, h("code", {}, key)),
          h("p", { class: "small" }, limits.join(" \u00b7 ")), copyButton(key, "Copy", "the helper\u2019s key")));
      } catch (error) {
        show(made, note("bad", error.message, error.next ?? "Your own key is as it was."));
        error.field?.focus();
      }
    } },
      h("div", { class: "field" }, h("label", { for: "helper-name" }, "Name, for the ledger"), name),
      h("div", { class: "row" },
        h("div", { class: "grow" }, h("label", { for: "helper-most" }, "Spends at most, in sats"), most),
        h("div", { class: "grow" }, h("label", { for: "helper-each" }, "Counted"), each)),
      h("p", { class: "hint", id: "helper-most-hint" }, "Empty: as much as the session has."),
      h("div", { class: "field" }, h("label", { for: "helper-hours" }, "Works for"), hours),
      h("label", { class: "check" }, only, h("span", {}, "It may only ask, not read the session or close it")),
      h("div", { class: "row" }, h("button", { type: "submit" }, "Make the key"))), made);
}

export function programsPanel({ session, context }) {
  const found = programs({ origin: location.origin, key: session.macaroon, model: context.workModel, smallModel: context.smallModel });
  return panel("Use it in programs", false,
    h("p", {}, "Programs and SDKs that take a base address and a key work as they are. These lines hold your key; to limit a program, use the key of a helper in its place."),
    found.map(([name, text]) => lines(name, text)),
    h("p", { class: "small" }, h("a", { href: "/docs" }, "All paths of the API")));
}
