// Entry of the first page.

import { call } from "./api.js";
import { h, note, show } from "./dom.js";
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

async function start() {
  const place = document.getElementById("session");
  try {
    const { data } = await call("GET", "/v1/models");
    context.models = data;
    context.btcUsd = Number(data[0]?.pricing.btcPriceUsd) || 0;
  } catch {
    show(place, h("div", { class: "card" }, note("bad", "The prices did not load.", "Check your connection. If it works, the server is busy: try again in a minute."),
      h("button", { type: "button", class: "primary", onclick: start }, "Try again")));
    return;
  }
  priceList(document.getElementById("price-list"), context);
  await sessionPanel(place, context);
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
