// Macaroons (V2, binary, base64), read and narrowed without the server.

const END = [0x00, 0x06, 0x20];
const SIGNATURE_BYTES = 32;

export function bytesOf(text) {
  const clean = text.replace(/\s+/g, "").replace(/-/g, "+").replace(/_/g, "/").replace(/=+$/, "");
  const padded = clean + "=".repeat((4 - (clean.length % 4)) % 4);
  try {
    return Uint8Array.from(atob(padded), (letter) => letter.charCodeAt(0));
  } catch {
    throw new Error("That is not a key of a session.");
  }
}

function textOf(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

export function sessionOf(text) {
  // Version 2, location "satmeter", and an identifier of 66 bytes: version, payment hash, session, generation.
  const bytes = bytesOf(text);
  const at = bytes[0] === 2 && bytes[1] === 1 ? 3 + bytes[2] : -1;
  if (at < 0 || bytes[at] !== 2 || bytes[at + 1] !== 66 || !tailIsRight(bytes)) throw new Error("That is not a key of a session.");
  const session = bytes.slice(at + 2 + 34, at + 2 + 58);
  return `ses_${textOf(session).replaceAll("+", "-").replaceAll("/", "_")}`;
}

function tailIsRight(bytes) {
  const at = bytes.length - SIGNATURE_BYTES - END.length;
  return at > 0 && END.every((byte, index) => bytes[at + index] === byte);
}

export async function narrow(text, caveats) {
  if (!crypto.subtle) throw new Error("This browser makes keys over HTTPS only. Use `satmeter macaroon attenuate` instead.");
  let bytes = Array.from(bytesOf(text));
  if (!tailIsRight(bytes)) throw new Error("That is not a key of a session.");
  for (const caveat of caveats) {
    const written = Array.from(new TextEncoder().encode(caveat));
    const signature = new Uint8Array(bytes.slice(-SIGNATURE_BYTES));
    const key = await crypto.subtle.importKey("raw", signature, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const next = new Uint8Array(await crypto.subtle.sign("HMAC", key, new Uint8Array(written)));
    bytes = [...bytes.slice(0, -SIGNATURE_BYTES - END.length), 0x02, ...length(written.length), ...written, 0x00, ...END, ...next];
  }
  return textOf(bytes);
}

function length(count) {
  return count < 128 ? [count] : [(count & 127) | 128, count >> 7];
}
