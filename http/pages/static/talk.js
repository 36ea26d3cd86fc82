// The conversation of a tab: what was said, the draft, and the message that was sent without a whole answer yet.

const TALK = "satmeter.talk.";
const DRAFT = "satmeter.draft.";

function read(name) {
  try { return sessionStorage.getItem(name); } catch { return null; }
}

function write(name, text) {
  try {
    if (text) sessionStorage.setItem(name, text);
    else sessionStorage.removeItem(name);
  } catch { /* The talk goes on without. */ }
}

const isTurn = (turn) => (turn?.role === "user" || turn?.role === "assistant") && typeof turn.content === "string";

export function openTalk(sessionId) {
  const talk = { said: [], sent: null, model: "" };
  try {
    const kept = JSON.parse(read(TALK + sessionId));
    if (Array.isArray(kept?.said)) talk.said = kept.said.filter(isTurn);
    if (typeof kept?.model === "string") talk.model = kept.model;
    const { text, model, once } = kept?.sent ?? {};
    if ([text, model, once].every((part) => typeof part === "string" && part)) talk.sent = { text, model, once };
  } catch { /* It begins empty. */ }
  talk.save = () => write(TALK + sessionId, JSON.stringify({ said: talk.said, sent: talk.sent, model: talk.model }));
  talk.draft = () => read(DRAFT + sessionId) ?? "";
  talk.keepDraft = (text) => write(DRAFT + sessionId, text);
  talk.clear = () => {
    talk.said = [];
    talk.sent = null;
    talk.save();
  };
  talk.drop = () => {
    write(TALK + sessionId, "");
    write(DRAFT + sessionId, "");
  };
  return talk;
}
