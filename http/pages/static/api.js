// Calls of the server's API, and what a person does next after an error.

export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super((typeof body.error === "string" ? body.error : body.error?.message) || "The server gave no reason.");
    this.status = status;
    // Under /v1/ our fields stand beside the other API's error.
    this.body = body;
    // Not the server's own word: a proxy's page, say, which does not know what became of the request.
    this.foreign = typeof body.error !== "string" && !body.error?.message;
    this.code = body.code || body.error?.code || "";
    this.retryAfter = retryAfter;
  }
}

export function newKey() {
  // `randomUUID` is missing without HTTPS.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A phone's clock may be hours off, and would hide an invoice that can be paid: the server's counts, by its answers.
let aheadMs = 0;
export const now = () => Date.now() - aheadMs;

function compareClocks(answer) {
  const servedMs = Date.parse(answer.headers.get("date") ?? "");
  if (!Number.isNaN(servedMs)) aheadMs = Date.now() - servedMs;
}

export async function send(method, path, { key, body, once, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (once) headers["Idempotency-Key"] = once;
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, cache: "no-store", credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { error: "The server did not answer.", code: "unreachable" });
  }
  compareClocks(answer);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new ApiError(answer.status, told !== null && typeof told === "object" ? told : {}, Number(answer.headers.get("retry-after")) || 0);
}

export async function call(method, path, options) {
  const answer = await send(method, path, options);
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { error: "The answer broke off.", code: "unreachable" });
  }
}

const NEXT = {
  unreachable: "Check your connection. If it works, the server may be starting again: try in a minute. Nothing is paid twice.",
  invalid_credential: "Check that you pasted all of the key, and that it is from this server. Or open a new session.",
  missing_credential: "Paste the key of a session, or open a new one.",
  payment_required: "Pay the invoice; the page goes on by itself.",
  insufficient_balance: "Pay the invoice above, then send your message again. It is still in the field.",
  caveat_violated: "This is a narrowed key. Ask the person who gave it to you for more, or use the whole key.",
  not_found: "Start again from the first page.",
  model_not_found: "Choose another model.",
  wrong_state: "Reload the page to see where it stands.",
  idempotency_conflict: "Reload the page, then try again.",
  expired: "Its time is over. You can still take back what is left.",
  closed: "You can still take back what is left.",
  body_too_large: "Make the text shorter, or begin a new conversation.",
  refund_pending: "A payment to you is under way. This page shows when it has arrived.",
  rate_limited: "Wait a little, then try again.",
  model_failed: "Send it again, or choose another model.",
  internal_error: "Try again in a minute. The balance on this page is what counts.",
  unavailable: "Try again in a minute. Your money is safe where it is.",
  overloaded: "Try again in a minute, or choose another model.",
};

function pause(seconds) {
  if (!seconds) return "";
  if (seconds < 120) return ` Ready again in ${seconds} seconds.`;
  return seconds < 7200 ? ` Ready again in ${Math.ceil(seconds / 60)} minutes.` : ` Ready again in ${Math.ceil(seconds / 3600)} hours.`;
}

export function advice(error) {
  if (!(error instanceof ApiError)) return { what: "Something on this page went wrong.", next: "Reload the page. Your key and your money are not affected." };
  const { body, code } = error;
  if (body.topUpInvoice) return { what: "The balance is too small for this message.", next: NEXT.insufficient_balance };
  if (body.promptTokens) return { what: "This conversation is too long for the model.", next: "Begin a new conversation, or choose another model. Your message is still in the field." };
  if (code === "insufficient_balance") return { what: "The balance is too small for this message.", next: "Top up, then send your message again. It is still in the field." };
  if (code === "payment_required") return { what: "The deposit is not paid yet.", next: NEXT.payment_required };
  if (isUnknown(error) && error.status) return { what: "The server lost track of this for a moment.", next: "Ask for the outcome: it is the same request, and is charged once at most." };
  const fields = Array.isArray(body.fields) ? body.fields.map((field) => field.message).join(". ") : "";
  const next = code === "invalid_request" ? "Change it, then try again." : (NEXT[code] || "Try again in a minute.");
  return { what: fields ? `${fields}.` : error.message, next: next + pause(error.retryAfter) };
}

export async function* events(answer) {
  // Server-sent events of a POST, which EventSource can't make.
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let got;
    try {
      got = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { error: "The connection broke.", code: "unreachable" });
    }
    if (got.done) return;
    rest = (rest + got.value).replaceAll("\r\n", "\n");
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const event = { name: "message", data: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        if (line.startsWith("event:")) event.name = line.slice(6).trim();
        if (line.startsWith("data:")) event.data += line.slice(5).trim();
      }
      rest = rest.slice(end + 2);
      if (event.data) yield event;
    }
  }
}

// Whether it is unknown what the server did: then the same is sent again under the same key only.
export function isUnknown(error) {
  return error instanceof ApiError && (error.status === 0 || (error.status >= 500 && error.foreign) || error.body.inDoubt === true || error.body.retryAction === "retry_same_key");
}

// Whether the same question may have an answer in a moment.
export function mayPass(error) {
  return error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

export function every(pauseMs, element, work, onError) {
  // Ends with its element. A hidden tab looks less often by the browser's own rule, and at once when it is shown again.
  let timer = 0;
  let over = false;
  let busy = false;
  const next = async () => {
    clearTimeout(timer);
    if (!element.isConnected) stop();
    if (over || busy) return;
    busy = true;
    try { await work(); } catch (error) { if (!over) onError?.(error); }
    busy = false;
    if (!over) timer = setTimeout(next, pauseMs);
  };
  const shown = () => { if (document.visibilityState === "visible") next(); };
  const stop = () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", shown);
  };
  document.addEventListener("visibilitychange", shown);
  timer = setTimeout(next, pauseMs);
  return stop;
}
