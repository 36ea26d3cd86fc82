// Wallets in the browser (WebLN, webln.guide): they pay invoices of this page, and make invoices to be paid back to.

export function webln() {
  return typeof window.webln?.enable === "function" ? window.webln : null;
}

export function withWebln(act) {
  // Some wallets come after the page, and say so on the document or on the window.
  if (webln()) { act(); return; }
  let done = false;
  const ready = () => {
    if (done || !webln()) return;
    done = true;
    act();
  };
  document.addEventListener("webln:ready", ready, { once: true });
  window.addEventListener("webln:ready", ready, { once: true });
}

export async function pay(paymentRequest) {
  const wallet = webln();
  await wallet.enable();
  // The preimage of the answer proves nothing here: the server's node says what was paid.
  await wallet.sendPayment(paymentRequest);
}

export async function makeInvoice(amountSats, memo) {
  const wallet = webln();
  await wallet.enable();
  const made = await wallet.makeInvoice({ amount: amountSats, defaultMemo: memo });
  if (typeof made?.paymentRequest !== "string" || !made.paymentRequest) throw new Error("The wallet made no invoice.");
  return made.paymentRequest;
}
