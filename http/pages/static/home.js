// Entry of the first page.

import { call, every } from "./api.js";
import { h, note, show } from "./dom.js";
import { jobPanel, leaveJob } from "./job.js";
import { priceList } from "./prices.js";
import { sessionPanel } from "./session.js";

const main = document.querySelector("main");
const context = {
  stub: main.dataset.stub === "yes",
  publicUrl: main.dataset.publicUrl === "yes",
  minSats: Number(main.dataset.minSats),
  maxSats: Number(main.dataset.maxSats),
  evalFeeSats: Number(main.dataset.evalFeeSats),
  workModel: main.dataset.workModel,
  smallModel: main.dataset.smallModel,
  btcUsd: 0,
  models: [],
};

const AGAIN_EVERY_MS = 3000;

async function start() {
  try {
    await load();
  } catch {
    const card = h("div", { class: "card" }, note("bad", "The prices did not load.", "Check your connection. If it works, the server is busy. This page tries again by itself."),
      h("button", { type: "button", class: "primary", onclick: () => load().catch(() => {}) }, "Try again"));
    show(document.getElementById("session"), card);
    every(AGAIN_EVERY_MS, card, load);
  }
}

async function load() {
  const { data } = await call("GET", "/v1/models");
  // The button and the clock may both have asked.
  if (context.models.length) return;
  context.models = data;
  context.btcUsd = Number(data[0]?.pricing.btcPriceUsd) || 0;
  priceList(document.getElementById("price-list"), context);
  addEventListener("hashchange", () => mode());
  mode("chat");
}

// The fragment holds what is shown, and a job's id: no browser sends it to a server.
let shown = "";

function mode(first = "") {
  const fragment = location.hash.slice(1);
  const next = fragment === "job" || fragment.startsWith("job_") ? "job" : fragment === "chat" ? "chat" : first;
  // Other fragments are places on the page.
  if (!next) return;
  const places = { chat: document.getElementById("session"), job: document.getElementById("job") };
  for (const link of document.querySelectorAll(".modes a")) {
    if (link.hash === `#${next}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  places.chat.hidden = next !== "chat";
  places.job.hidden = next !== "job";
  leaveJob(places.job);
  if (next === "job") jobPanel(places.job, context, fragment);
  else if (!shown.includes("chat")) sessionPanel(places.chat, context);
  shown += next;
}

// A link to what is folded away opens it.
function unfold() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  const folded = target && target.closest("details");
  if (folded) {
    folded.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", unfold);
document.querySelector('a[href="#prices"]').addEventListener("click", () => setTimeout(unfold));
unfold();

start();
