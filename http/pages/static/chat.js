// The conversation: messages, running cost, top-ups in the middle of it. What one does with the key is in keys.js.

import { ApiError, advice, call, events, every, isUnknown, newKey, send } from "./api.js";
import { h, note, sats, show, twice, usd } from "./dom.js";
import { finishPanel, helperPanel, keyPanel, programsPanel } from "./keys.js";
import { guard } from "./keyring.js";
import { markdown } from "./markdown.js";
import { aboutAnswer } from "./prices.js";
import { OVER, look } from "./session.js";
import { heedTabs, tellTabs } from "./tabs.js";
import { openTalk } from "./talk.js";
import { findTopUp, payTopUp, topUpForm } from "./topup.js";

const ANSWER_TOKENS = 4096;
const BYTES_PER_TOKEN = 4;
const SETTLES_MS = 20_000;
const LOOKS_ALONE = 5;

// `status` is null for a key that may ask and not look.
export function chat(place, context, session, status, { fresh = false } = {}) {
  const talk = openTalk(session.sessionId);
  if (status && OVER.has(status.state)) over(place, context, session, status, talk);
  else new Chat(place, context, session, status, talk).show(fresh);
}

function panelsOf(place, context, session, status, talk) {
  const onClosed = (closed) => {
    tellTabs(session.sessionId);
    chat(place, context, session, closed);
  };
  return { place, context, session, leave: () => talk.drop(), status, onClosed };
}

function over(place, context, session, status, talk) {
  guard(() => session.where !== "browser" && !session.saved && status.refund.payableSats > 0);
  const head = h("h2", { tabindex: "-1" }, status.state === "closed" ? "This session is closed" : "The time of this session is over");
  const unsent = talk.sent?.text || talk.draft();
  const panels = panelsOf(place, context, session, () => status, talk);
  show(place, h("div", { class: "card" }, head, finishPanel(panels),
    unsent && h("div", { class: "note" }, h("strong", {}, "Your last message was not answered"), h("p", { class: "as-typed", dir: "auto" }, unsent))),
  h("div", { class: "card panels" }, keyPanel(panels)));
  place.closest("main").classList.remove("talking");
  head.focus();
}

class Chat {
  constructor(place, context, session, status, talk) {
    Object.assign(this, { place, context, session, status, talk });
    this.busy = null;
    this.figure = h("span", { class: "figure" });
    this.spent = h("span", { class: "soft small" });
    this.log = h("div", { class: "talk", role: "log", "aria-label": "Conversation" });
    this.told = h("div", { class: "told" });
    this.top = h("div");
    this.field = h("textarea", { id: "message", rows: "2", dir: "auto", maxlength: "100000", placeholder: "Ask anything", value: talk.draft(), oninput: () => this.typed() });
    const usual = context.models.some((each) => each.id === talk.model) ? talk.model : context.workModel;
    this.model = h("select", { id: "model", "aria-label": "Model", onchange: () => { talk.model = this.model.value; talk.save(); } },
      context.models.map((each) => h("option", { value: each.id, selected: each.id === usual }, `${each.display_name} \u00b7 ${aboutAnswer(each)}`)));
    this.button = h("button", { type: "submit", class: "primary" }, "Send");
    this.again = twice(h("button", { type: "button", class: "plain" }, "New conversation"), "Press again: this one is not kept", () => this.begin());
    this.form = h("form", { class: "write", onsubmit: (event) => { event.preventDefault(); this.submit(); } },
      h("label", { for: "message", class: "read-out" }, "Your message"), this.told, this.field, h("div", { class: "row" }, this.model, this.button));
    this.field.addEventListener("keydown", (event) => {
      // Safari calls the Enter that ends a composition (Japanese, say) one outside of it; its code is 229.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229 || !matchMedia("(hover: hover)").matches) return;
      event.preventDefault();
      if (!this.busy) this.submit();
    });
  }

  show(fresh) {
    const { place, context, session, talk } = this;
    place.closest("main").classList.add("talking");
    const panels = panelsOf(place, context, session, () => this.status, talk);
    const greeting = fresh && note("good", "Paid.", session.where === "browser" ? "The key is kept in this browser. Write your first message." : "Write your first message. The key is not kept in this browser: download it below.");
    const topUp = h("button", { type: "button", class: "plain", onclick: () => { show(this.told); topUpForm(this.top, context, session, talk, (status) => this.paid(status)); } }, "Top up");
    this.greeting = greeting || h("div");
    show(place,
      h("div", { class: "card chat" },
        h("div", { class: "meter" }, h("h2", { tabindex: "-1", class: "read-out" }, "Your session"), h("div", { class: "sums" }, this.figure, this.spent), this.status && topUp),
        this.greeting, this.log, this.top, this.form, h("div", { class: "after" }, this.again)),
      h("div", { class: "card panels" }, keyPanel(panels), helperPanel(panels), programsPanel(panels), this.status && finishPanel(panels)));
    for (const turn of talk.said) this.log.append(turn.role === "user" ? mineOf(turn.content) : this.answerOf(turn));
    this.balance();
    this.tidy();
    this.typed();
    guard(() => session.where !== "browser" && !session.saved && (this.status === null || this.status.balanceMsat > 0));
    if (talk.sent) this.unanswered("Your last message has no whole answer yet.", "The page was left before it came.");
    else if (fresh) this.field.focus();
    if (this.status && !fresh) findTopUp(this.top, context, session, talk, this.status, (status) => this.paid(status));
    const shown = () => {
      if (!this.form.isConnected) document.removeEventListener("visibilitychange", shown);
      else if (document.visibilityState === "visible" && !this.busy) this.refresh().catch(() => {});
    };
    document.addEventListener("visibilitychange", shown);
    heedTabs(session.sessionId, this.form, () => { if (!this.busy) this.refresh().catch(() => {}); });
  }

  begin() {
    const unsent = this.talk.sent?.text;
    this.talk.clear();
    if (unsent) this.giveBack(unsent);
    show(this.log);
    show(this.told);
    this.tidy();
    this.field.focus();
  }

  tidy() {
    this.again.hidden = !this.talk.said.length || Boolean(this.busy);
  }

  typed() {
    this.talk.keepDraft(this.field.value);
    // Grows with its text; CSS bounds it.
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight + 2}px`;
  }

  balance(next = {}) {
    const { context } = this;
    if (this.status) Object.assign(this.status, next);
    const inUsd = (msat) => (context.btcUsd ? ` (${usd((msat / 1e11) * context.btcUsd)})` : "");
    const left = this.status?.balanceMsat ?? next.balanceMsat;
    this.figure.textContent = left === undefined ? "A narrowed key" : `${sats(left)} left${inUsd(left)}`;
    this.spent.textContent = this.status ? (this.status.spentMsat ? `${sats(this.status.spentMsat)} spent${inUsd(this.status.spentMsat)}` : "Nothing spent yet") : "What is left is shown after each answer";
  }

  async refresh() {
    if (!this.status) return;
    const status = await look(this.session);
    if (OVER.has(status.state) && !this.busy) chat(this.place, this.context, this.session, status);
    else this.balance(status);
  }

  paid(status) {
    if (OVER.has(status.state)) { chat(this.place, this.context, this.session, status); return; }
    this.balance(status);
    show(this.told);
    this.field.focus();
    tellTabs(this.session.sessionId);
  }

  submit() {
    if (this.busy) { this.busy.abort(); return; }
    const text = this.field.value.trim();
    if (!text) { this.field.focus(); return; }
    if (this.talk.sent) {
      show(this.told, note("bad", "Your last message has no answer yet.", "Fetch its answer above, or edit it. Then send this one."));
      return;
    }
    this.talk.sent = { text, model: this.model.value, once: newKey() };
    this.talk.save();
    this.field.value = "";
    this.typed();
    this.run();
  }

  // Sends the message that waits for its answer. Under its key the server carries it out and charges it once.
  async run() {
    const { talk, session } = this;
    const { text, model, once } = talk.sent;
    show(this.told);
    this.greeting.remove();
    this.log.querySelector(".unanswered")?.remove();
    const mine = mineOf(text);
    const answer = h("div", { class: "said", "aria-busy": "true" }, h("p", { class: "soft waiting" }, "Thinking"));
    this.log.append(mine, answer);
    answer.scrollIntoView({ block: "nearest" });
    const busy = new AbortController();
    this.busy = busy;
    this.button.textContent = "Stop";
    this.tidy();
    const messages = [...talk.said.map(({ role, content }) => ({ role, content })), { role: "user", content: text }];
    const got = { text: "", usage: null, cut: false, whole: false, error: null, requestId: null };
    const draw = this.drawing(answer, got, this.meterOf(model, messages));
    try {
      const body = { model, stream: true, stream_options: { include_usage: true }, max_tokens: ANSWER_TOKENS, messages };
      const reply = await send("POST", "/v1/chat/completions", { key: session.macaroon, body, once, signal: busy.signal });
      got.requestId = reply.headers.get("x-request-id");
      for await (const { data } of events(reply)) {
        if (data === "[DONE]") { got.whole = true; break; }
        const piece = JSON.parse(data);
        if (piece.error) throw new ApiError(200, piece, 0);
        got.text += piece.choices?.[0]?.delta?.content ?? "";
        got.cut ||= piece.choices?.[0]?.finish_reason === "length";
        got.usage = piece.usage ?? got.usage;
        draw();
      }
      if (!got.whole) throw new ApiError(0, { error: "The connection broke.", code: "unreachable" });
    } catch (error) {
      got.error = error;
    }
    draw.stop();
    this.busy = null;
    this.button.textContent = "Send";
    answer.removeAttribute("aria-busy");
    // What this page can't read says nothing either: sent under another key, the message could be charged again.
    if (got.error && !busy.signal.aborted && (isUnknown(got.error) || !(got.error instanceof ApiError))) {
      mine.remove();
      answer.remove();
      const { what, next } = advice(got.error);
      this.unanswered(what, next, got.text);
    } else await this.settle(got, { text, mine, answer, halted: busy.signal.aborted });
    if (!this.form.isConnected) return;
    this.tidy();
    const { activeElement } = document;
    if (matchMedia("(hover: hover)").matches && (activeElement === document.body || this.form.contains(activeElement))) this.field.focus();
  }

  async settle(got, { text, mine, answer, halted }) {
    const { talk } = this;
    talk.sent = null;
    const turn = { role: "assistant", content: got.text, cost: got.usage?.cost_msat, cut: got.cut };
    if (got.text) {
      talk.said.push({ role: "user", content: text }, turn);
      answer.replaceWith((answer = this.answerOf(turn)));
    } else {
      mine.remove();
      answer.remove();
      if (!got.error || halted) this.giveBack(text);
    }
    talk.save();
    if (got.error && !halted) {
      if (!got.text) this.giveBack(text);
      this.refused(got.error, Boolean(got.text));
    } else if (!got.text && !halted) show(this.told, note("bad", "The model answered nothing.", "Say it in other words, or choose another model."));
    if (halted) show(this.told, note("", "Stopped.", "You pay for what was written until then."));
    const known = got.usage?.balance_msat !== undefined;
    if (known) this.balance({ balanceMsat: got.usage.balance_msat });
    const cost = await this.settled(known ? null : got.requestId, known).catch(() => undefined);
    tellTabs(this.session.sessionId);
    // The refusal may be some seconds ahead of what the session says of itself, and only that says what is owed.
    if (OVER.has(got.error?.code)) every(1000, this.form, () => this.refresh());
    if (got.text && turn.cost === undefined && cost !== undefined) {
      turn.cost = cost;
      talk.save();
      if (answer.isConnected) answer.replaceWith(this.answerOf(turn));
    }
  }

  // Returns what the request cost. A stream without its last event doesn't say, and what the session has spent
  // meanwhile may be another tab's.
  async settled(requestId, known) {
    const until = Date.now() + SETTLES_MS;
    for (let looks = 1; ; looks += 1) {
      await this.refresh();
      const over = known || !this.status?.heldMsat || this.busy || Date.now() > until || !this.form.isConnected;
      // What is held may be another tab's as well.
      const cost = over || looks === LOOKS_ALONE ? await this.costOf(requestId) : undefined;
      if (over || cost !== undefined) return cost;
      await new Promise((go) => { setTimeout(go, 400); });
    }
  }

  async costOf(requestId) {
    if (!this.status || !requestId) return undefined;
    const { sessionId, macaroon } = this.session;
    try {
      return (await call("GET", `/sessions/${sessionId}/requests/${requestId}/receipt`, { key: macaroon })).receipt.chargedMsat;
    } catch {
      return undefined;
    }
  }

  giveBack(text) {
    // What was typed meanwhile stays, too.
    this.field.value = this.field.value.trim() ? `${text}\n\n${this.field.value}` : text;
    this.typed();
  }

  // Nothing is sent again without being asked: the person chooses.
  unanswered(what, next, partly = "") {
    const { text } = this.talk.sent;
    const box = h("div", { class: "unanswered" }, mineOf(text), partly && h("div", { class: "said" }, markdown(partly)),
      note("bad", what, next,
        h("p", {}, "Its answer can be fetched: it is the same request, and is charged once at most."),
        h("div", { class: "row" },
          h("button", { type: "button", class: "primary", onclick: () => this.run() }, "Fetch the answer"),
          h("button", { type: "button", onclick: () => {
            this.talk.sent = null;
            this.talk.save();
            box.remove();
            this.giveBack(text);
            this.field.focus();
          } }, "Edit the message"))));
    this.log.append(box);
    box.scrollIntoView({ block: "nearest" });
  }

  refused(error, begun) {
    const { what, next } = advice(error);
    const invoice = error instanceof ApiError && (error.body.topUpInvoice || error.body.depositInvoice);
    show(this.told, note("bad", what, begun ? "You pay for what stands above. Write \u201cgo on\u201d for the rest." : next));
    if (invoice) payTopUp(this.top, this.context, this.session, this.talk, invoice, (status) => this.paid(status));
  }

  answerOf({ content, cost, cut }) {
    const { context } = this;
    const inUsd = cost !== undefined && context.btcUsd ? ` \u00b7 ${usd((cost / 1e11) * context.btcUsd)}` : "";
    return h("div", { class: "said" }, markdown(content),
      h("p", { class: "cost" }, cost === undefined ? "Its cost is in the balance." : `${sats(cost)}${inUsd}`),
      cut && h("p", { class: "soft small" }, "The answer was cut off here. Write \u201cgo on\u201d for more."));
  }

  meterOf(id, messages) {
    const { pricing } = this.context.models.find((each) => each.id === id) ?? this.context.models[0];
    const rates = pricing.perMillionTokensMsat;
    const bytes = new TextEncoder();
    const tokens = (text) => bytes.encode(text).length / BYTES_PER_TOKEN;
    const asked = messages.reduce((sum, { content }) => sum + tokens(content), 0);
    return (text) => Math.round(pricing.requestMsat + (rates.input * asked + rates.output * tokens(text)) / 1e6);
  }

  drawing(answer, got, meter) {
    // Once a frame: to read a long answer's Markdown takes some milliseconds.
    let frame = 0;
    const step = () => {
      frame = 0;
      if (!got.text) return;
      // Who reads further up is not pulled down.
      const follows = answer.getBoundingClientRect().bottom < innerHeight + 80;
      const cost = meter(got.text);
      const inUsd = this.context.btcUsd ? ` \u00b7 ${usd((cost / 1e11) * this.context.btcUsd)}` : "";
      show(answer, markdown(got.text), h("p", { class: "cost" }, `about ${sats(cost)}${inUsd} so far`));
      if (follows) answer.scrollIntoView({ block: "end" });
    };
    const draw = () => { frame ||= requestAnimationFrame(step); };
    draw.stop = () => cancelAnimationFrame(frame);
    return draw;
  }
}

function mineOf(text) {
  return h("div", { class: "said mine", dir: "auto" }, h("span", { class: "read-out", dir: "ltr" }, "You: "), text);
}
