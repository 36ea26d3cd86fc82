// Keys of sessions: kept in this browser, or in this tab alone. A key is money, so none is ever overwritten by another.

import { sessionOf } from "./macaroon.js";

const KEY = "satmeter.key.";
const CURRENT = "satmeter.current";
// What this page holds itself, for browsers that keep nothing.
const held = new Map();
let current = null;

// A narrowed key is of the same session and ends differently: it must not take the place of the whole one.
const nameOf = (macaroon) => macaroon.slice(-16);

// To read the property alone throws where a browser keeps nothing.
const ofTab = () => sessionStorage;
const ofBrowser = () => localStorage;

function read(storage, name) {
  try { return storage().getItem(name); } catch { return null; }
}

function write(storage, name, text) {
  try {
    storage().setItem(name, text);
    return storage().getItem(name) === text;
  } catch {
    return false;
  }
}

function remove(storage, name) {
  try { storage().removeItem(name); } catch { /* There is nothing to remove. */ }
}

function names(storage) {
  try { return Object.keys(storage()).filter((name) => name.startsWith(KEY)); } catch { return []; }
}

function found(storage, name) {
  try {
    const { macaroon, at, done } = JSON.parse(read(storage, name));
    return { macaroon, sessionId: sessionOf(macaroon), at: Number(at) || 0, done: done === true };
  } catch {
    return null;
  }
}

export function all() {
  const sessions = new Map();
  for (const [name, session] of held) sessions.set(name, { ...session, where: "page" });
  for (const [storage, where] of [[ofTab, "tab"], [ofBrowser, "browser"]]) {
    for (const name of names(storage)) {
      const session = found(storage, name);
      if (session) sessions.set(nameOf(session.macaroon), { ...sessions.get(nameOf(session.macaroon)), ...session, where });
    }
  }
  return [...sessions.values()].sort((one, other) => other.at - one.at);
}

export function chosen() {
  const sessions = all();
  const here = current ?? read(ofTab, CURRENT);
  // A tab that was told to begin another session has chosen none.
  if (here === "none") return null;
  return sessions.find((session) => nameOf(session.macaroon) === here) ?? sessions.find((session) => !session.done) ?? null;
}

export function choose(session) {
  current = session ? nameOf(session.macaroon) : "none";
  write(ofTab, CURRENT, current);
}

// Says where the key is from then on: "browser", "tab" (a reload finds it) or "page".
export function keep(session, inBrowser) {
  const name = nameOf(session.macaroon);
  session.at ||= Date.now();
  const text = JSON.stringify({ macaroon: session.macaroon, at: session.at });
  held.set(name, session);
  const inTab = write(ofTab, KEY + name, text);
  if (inBrowser && write(ofBrowser, KEY + name, text)) session.where = "browser";
  else {
    if (!inBrowser) remove(ofBrowser, KEY + name);
    session.where = inTab ? "tab" : "page";
  }
  return session.where;
}

// A session that is done is not opened by itself again. Its key stays for some days: a payment may be seen late.
export function retire(session) {
  const name = KEY + nameOf(session.macaroon);
  session.done = true;
  for (const storage of [ofTab, ofBrowser]) {
    if (read(storage, name)) write(storage, name, JSON.stringify({ macaroon: session.macaroon, at: session.at, done: true }));
  }
}

export function forget(session) {
  const name = nameOf(session.macaroon);
  held.delete(name);
  remove(ofTab, KEY + name);
  remove(ofBrowser, KEY + name);
  if (current === name) current = null;
  if (read(ofTab, CURRENT) === name) remove(ofTab, CURRENT);
}

// A key that is nowhere but here is lost with the tab.
let atRisk = () => false;
export function guard(isAtRisk) { atRisk = isAtRisk; }
// A wallet that opens takes no tab away, though browsers ask as if it did: who says no there never gets to pay.
let toWallet = false;
addEventListener("click", ({ target }) => {
  if (!target.closest?.('a[href^="lightning:"]')) return;
  toWallet = true;
  setTimeout(() => { toWallet = false; }, 1000);
}, true);
addEventListener("beforeunload", (event) => { if (atRisk() && !toWallet) event.preventDefault(); });
