// One piece of work: written, priced, paid for, followed to its result, and the rest taken back.

import { advice, call, newKey } from "./api.js";
import { copyButton, h, note, show, twice } from "./dom.js";
import { follow } from "./follow.js";
import { forget, isJobId, jobs, keep, known } from "./job_list.js";
import { examples } from "./job_prices.js";
import { body, headline, stepOf } from "./job_states.js";
import { failed } from "./pay.js";

const TEXT_MAX = 100_000;
const LISTED_MAX = 20;
const STEPS = ["Evaluation", "Price", "Work", "Result"];
let stop = () => {};

export function leaveJob(place) {
  stop();
  stop = () => {};
  place.closest("main").classList.remove("at-job");
  show(place);
}

export function jobPanel(place, context, fragment) {
  leaveJob(place);
  if (isJobId(fragment)) jobView(place, context, fragment);
  else if (fragment.startsWith("job_")) missing(place, fragment);
  else jobForm(place, context);
}

function open(fragment) {
  // The page's switch of modes listens for this, and calls `jobPanel`.
  location.hash = fragment;
}

// Writing

const DRAFT = "satmeter.job-draft";
// For browsers that keep nothing.
let draft = "";

function readDraft() {
  try { return sessionStorage.getItem(DRAFT) ?? draft; } catch { return draft; }
}

function keepDraft(text) {
  draft = text;
  try {
    if (text) sessionStorage.setItem(DRAFT, text);
    else sessionStorage.removeItem(DRAFT);
  } catch { /* It is on this page alone. */ }
}

function jobForm(place, context) {
  const told = h("div");
  const field = h("textarea", { id: "request", rows: "6", dir: "auto", "aria-describedby": "request-hint", value: readDraft(), placeholder: "Such as: write a thank-you note to a colleague who leaves after ten years." });
  const hint = h("p", { class: "hint", id: "request-hint" });
  const address = h("input", { type: "text", id: "job-refund-to", autocomplete: "off", autocapitalize: "none", autocorrect: "off", inputmode: "email", spellcheck: "false", "aria-describedby": "job-refund-hint" });
  const here = h("input", { type: "checkbox", id: "keep-job" });
  here.checked = true;
  const prices = examples(context);
  const button = h("button", { type: "submit", class: "primary" }, "Show the invoice");
  let once = newKey();
  let asked = "";
  let busy = false;

  const measure = () => {
    keepDraft(field.value);
    const left = TEXT_MAX - [...field.value].length;
    hint.textContent = left < 2000 ? `${left.toLocaleString("en")} characters left.` : "All that the model needs to know. It asks nothing back.";
    prices.of(field.value);
  };
  field.addEventListener("input", measure);

  const form = h("form", { class: "card", novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (busy) return;
    if (!text) { show(told, note("bad", "The request is empty.", "Write what is to be done.")); field.focus(); return; }
    const order = { request: text, ...(address.value.trim() ? { refundTo: address.value.trim() } : {}) };
    // The same order again after a lost answer is the same job, not a second one.
    const now = JSON.stringify(order);
    if (asked && asked !== now) once = newKey();
    asked = now;
    busy = true;
    // A button that is disabled would lose the focus.
    button.setAttribute("aria-disabled", "true");
    show(told, h("p", { class: "waiting", role: "status" }, "One moment"));
    try {
      const made = await call("POST", "/jobs", { body: order, once });
      keep(made.jobId, { text, here: here.checked });
      keepDraft("");
      open(made.jobId);
    } catch (error) {
      failed(told, error);
      button.removeAttribute("aria-disabled");
    }
    busy = false;
  } },
    h("h2", {}, "What shall be done?"),
    h("p", { class: "soft" }, "A model looks at your request and names its price. You pay that, and get the result. What it costs less, you take back."),
    h("div", { class: "field" }, h("label", { for: "request" }, "Your request"), field, hint),
    prices.root,
    h("div", { class: "folds" }, h("details", {}, h("summary", {}, "Have the rest paid back by itself"), h("div", {},
      h("div", { class: "field" }, h("label", { for: "job-refund-to" }, "Your Lightning address, if you have one"), address,
        h("p", { class: "hint", id: "job-refund-hint" }, "Such as you@wallet.example. Without it you take the rest back at the end."))))),
    h("label", { class: "check" }, here, h("span", {}, "Keep the job in this browser", h("span", { class: "hint" }, h("br"), "Whoever has its link sees it, and can take the rest back. Untick this on a shared computer."))),
    told, h("div", { class: "row" }, button));
  measure();
  show(place, form, jobList());
}

function jobList() {
  const list = jobs();
  if (!list.length) return null;
  const lines = (some) => h("ul", { class: "jobs", role: "list" }, some.map((job) => h("li", {},
    h("a", { href: `#${job.id}`, dir: "auto" }, job.title || "A job"),
    h("span", { class: "hint" }, new Date(job.at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })))));
  const older = list.slice(LISTED_MAX);
  return h("section", { class: "card", "aria-labelledby": "your-jobs" }, h("h2", { id: "your-jobs" }, "Your jobs in this browser"),
    lines(list.slice(0, LISTED_MAX)),
    older.length > 0 && h("details", {}, h("summary", {}, `Older jobs (${older.length})`), h("div", {}, lines(older))));
}

// Following

function missing(place, fragment) {
  const heading = h("h2", { tabindex: "-1" }, "There is no such job here");
  show(place, h("div", { class: "card" }, heading,
    h("p", {}, "Its link may be cut off, or it was never paid and its time is over. Jobs that took money are kept for good."),
    h("div", { class: "row" }, h("a", { class: "button primary", href: "#job" }, "Write a request"),
      isJobId(fragment) && known(fragment) && h("button", { type: "button", class: "plain", onclick: () => { forget(fragment); open("job"); } }, "Take it off the list"))));
  heading.focus();
}

function jobView(place, context, id) {
  const mine = known(id);
  const heading = h("h2", { tabindex: "-1" }, "Your job");
  const steps = h("ol", { class: "steps", role: "list" });
  const said = h("p", { class: "read-out", role: "status" });
  const trouble = h("div");
  const part = h("div", {}, h("p", { class: "waiting" }, "One moment"));
  const card = h("div", { class: "card" }, heading, steps, said, part, trouble);
  let before = "";

  const keepIt = keepCard(id, mine);
  const view = { id, context, text: mine?.text ?? "", again: (text) => { keepDraft(text); open("job"); } };

  const tell = (status) => {
    // A job that came by its link is in the list of this tab, once it is known to be one.
    if (!known(id)) keep(id, { here: false });
    // What changes without meaning anything to a person must not take the focus away from what it is on.
    const { updatedAt, ...meaning } = status;
    const now = JSON.stringify([meaning.state, meaning.workInvoice, meaning.waitingFor, meaning.refund?.withdraw]);
    if (now === before) return;
    before = now;
    const had = card.contains(document.activeElement);
    const step = stepOf(status);
    heading.textContent = headline(status);
    said.textContent = headline(status);
    show(steps, STEPS.map((name, index) => h("li", { class: index < step.done ? "done" : null, "aria-current": index === step.now ? "step" : null },
      name, index < step.done && h("span", { class: "read-out" }, " (done)"))));
    show(part, body(status, view));
    if (had) heading.focus();
    // Where the browser keeps nothing, only the person can.
    if (!known(id)) keepIt.querySelector("details").open = true;
  };

  place.closest("main").classList.add("at-job");
  show(place, card, keepIt, h("p", { class: "next" }, h("a", { class: "button", href: "#job" }, "Another job")));
  heading.focus();
  stop = follow(id, {
    tell,
    trouble: (error) => {
      if (!error) { show(trouble); return; }
      const { what } = advice(error);
      show(trouble, note("bad", what, "This page tries again by itself. What you paid for goes on without it."));
    },
    gone: () => missing(place, id),
  });
}

function keepCard(id, mine) {
  const link = `${location.origin}/#${id}`;
  const told = h("div");
  return h("div", { class: "card panels" }, h("details", {}, h("summary", {}, "Keep this job"), h("div", {},
    h("p", {}, "This link opens it on any device. It is the job\u2019s only key: whoever has it sees the result, and can take the rest back."),
    h("pre", { class: "key", tabindex: "0", "aria-label": "The job\u2019s link" }, h("code", {}, link)),
    h("div", { class: "row" }, copyButton(link, "Copy", "the job\u2019s link"),
      h("button", { type: "button", onclick: () => {
        const kept = keep(id, { text: mine?.text ?? "", here: true });
        show(told, kept ? note("good", "It is in the list of this browser.") : note("bad", "This browser keeps nothing for this page.", "Copy the link above, and keep it yourself."));
      } }, "Keep it in this browser"),
      // A lost id is a lost result.
      twice(h("button", { type: "button", class: "plain" }, "Forget it here"), "Press again, if you have the link", () => { forget(id); open("job"); })), told)));
}
