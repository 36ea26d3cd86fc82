// Builder of elements. Texts become text nodes, never markup.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function show(place, ...children) {
  place.replaceChildren(...children.flat().filter(Boolean));
}

export function note(kind, title, ...more) {
  return h("div", { class: `note ${kind}`, role: kind === "bad" ? "alert" : "status" }, h("strong", {}, title), ...more.filter(Boolean).map((text) => (typeof text === "string" ? h("p", {}, text) : text)));
}

let counter = 0;
export const freshId = (word) => `${word}-${(counter += 1)}`;

export function copyButton(text, name = "Copy", of = "", onCopied = null) {
  const said = h("span", {}, name);
  // The name follows the text, so that a screen reader hears that it worked.
  said.setAttribute("aria-live", "polite");
  const button = h("button", { type: "button", onclick: async () => {
    const done = await copied(text);
    said.textContent = done ? "Copied" : "Copy it by hand";
    if (done) onCopied?.();
    else byHand(button, text, of);
    setTimeout(() => { said.textContent = name; }, 2500);
  } }, said, of && h("span", { class: "read-out" }, ` ${of}`));
  return button;
}

// Where no script may write to the clipboard: the text itself, selected.
function byHand(button, text, of) {
  const before = button.closest(".row, .block-top") ?? button;
  const there = before.nextElementSibling;
  const field = there?.classList.contains("by-hand") ? there : h("textarea", { class: "by-hand", rows: "3", readonly: true, value: text, "aria-label": `Select and copy ${of || "it"} by hand` });
  before.after(field);
  field.focus();
  selectAll(field);
}

function selectAll(field) {
  field.select();
  // On iOS, `select` leaves a field that is read-only as it is.
  field.setSelectionRange(0, field.value.length);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without HTTPS browsers have no clipboard for scripts but this one.
    const before = document.activeElement;
    const field = h("textarea", { readonly: true, value: text, class: "read-out" });
    document.body.append(field);
    selectAll(field);
    const done = document.execCommand("copy");
    field.remove();
    before?.focus({ preventScroll: true });
    return done;
  }
}

// Safari asks before it saves a file, and reads it only then: its address must last as long as a person thinks.
const SAVED_WITHIN_MS = 600_000;

export function saveFile(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: address, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), SAVED_WITHIN_MS);
}

export function twice(button, warning, act) {
  // The second press does it, within some seconds.
  const text = button.textContent;
  let timer = 0;
  button.addEventListener("click", () => {
    if (timer) {
      clearTimeout(timer);
      act();
      return;
    }
    button.textContent = warning;
    timer = setTimeout(() => {
      timer = 0;
      button.textContent = text;
    }, 8000);
  });
  return button;
}

// Money, for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function sats(msat) {
  const value = msat / 1000;
  const text = value >= 10 || Number.isInteger(value) ? whole.format(Math.floor(value)) : value.toFixed(value < 1 ? 3 : 1);
  return `${text} ${text === "1" ? "sat" : "sats"}`;
}

// A whole number as people write it, with its thousands set apart or not; NaN for all else, as 1.5 is not 15.
export function wholeNumber(text) {
  const digits = text.trim().replace(/\s*sats?$/i, "");
  const apart = /^\d{1,3}([.,'\u2019_\s])\d{3}(?:\1\d{3})*$/;
  return /^\d+$/.test(digits) || apart.test(digits) ? Number(digits.replace(/\D/g, "")) : NaN;
}

export function usd(amount) {
  if (!Number.isFinite(amount)) return "";
  if (amount === 0) return "$0";
  if (amount >= 0.1) return `$${amount.toFixed(2)}`;
  return amount < 0.0001 ? "less than $0.0001" : `$${Number(amount.toPrecision(2))}`;
}
