// The price list, for people.

import { h, sats, show, usd } from "./dom.js";

// A question of 200 tokens and an answer of 500: a page of text.
export function answerMsat({ pricing }) {
  const rates = pricing.perMillionTokensMsat;
  return pricing.requestMsat + (rates.input * 200 + rates.output * 500) / 1e6;
}

export const aboutAnswer = (model) => `about ${sats(Math.max(1000, Math.round(answerMsat(model) / 1000) * 1000))}`;

export function priceList(place, context) {
  const inUsd = (msat) => (context.btcUsd ? usd((msat / 1e11) * context.btcUsd) : "");
  const amount = (msat) => sats(msat).replace(/ sats?$/, "");
  const row = (model) => {
    const rates = model.pricing.perMillionTokensMsat;
    return h("tr", {}, h("th", { scope: "row" }, model.display_name),
      h("td", { class: "sum-of" }, amount(Math.max(1000, Math.round(answerMsat(model) / 1000) * 1000)), h("span", { class: "soft small" }, ` ${inUsd(answerMsat(model))}`)),
      h("td", { class: "sum-of" }, amount(Math.round(rates.input / 1000))), h("td", { class: "sum-of" }, amount(Math.round(rates.output / 1000))));
  };
  const heads = ["A page of text", "1,000 tokens in", "1,000 tokens out"];
  show(place,
    h("p", {}, "You pay for what an answer used, to the thousandth of a sat. The whole conversation goes to the model with each message, so long ones cost more. A token is about three quarters of a word."),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Price list" }, h("table", { class: "prices" },
      h("caption", {}, "Prices in sats"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Model"), heads.map((text) => h("th", { scope: "col", class: "sum-of" }, text)))),
      h("tbody", {}, context.models.map(row)))));
}
