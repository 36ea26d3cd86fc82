// The conversation of a tab: what was said, the draft, the message that was sent without a whole answer yet, and the
// top-up that waits for its payment.

const TALK = "satmeter.talk.";
const DRAFT = "satmeter.draft.";
const ASIDE_MAX = 20;

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
  const talk = { said: [], sent: null, model: "", topUp: null, aside: [] };
  try {
    const kept = JSON.parse(read(TALK + sessionId));
    if (Array.isArray(kept?.said)) talk.said = kept.said.filter(isTurn);
    if (typeof kept?.model === "string") talk.model = kept.model;
    if (typeof kept?.topUp?.paymentHash === "string" && typeof kept.topUp.expiresAt === "string") talk.topUp = kept.topUp;
    if (Array.isArray(kept?.aside)) talk.aside = kept.aside;
    const { text, model, once } = kept?.sent ?? {};
    if ([text, model, once].every((part) => typeof part === "string" && part)) talk.sent = { text, model, once };
  } catch { /* It begins empty. */ }
  talk.save = () => write(TALK + sessionId, JSON.stringify({ said: talk.said, sent: talk.sent, model: talk.model, topUp: talk.topUp, aside: talk.aside }));
  talk.keepTopUp = (invoice) => {
    talk.topUp = invoice && { paymentHash: invoice.paymentHash, expiresAt: invoice.expiresAt };
    talk.aside = talk.aside.filter((hash) => hash !== invoice?.paymentHash);
    talk.save();
  };
  // An invoice that the person does not want to see again.
  talk.putAside = (invoice) => {
    talk.aside = [...talk.aside, invoice.paymentHash].slice(-ASIDE_MAX);
    talk.keepTopUp(null);
  };
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
