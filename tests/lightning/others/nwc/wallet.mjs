// The wallet side of Nostr Wallet Connect by somebody else's library, over a relay. Words: LIBRARY RELAY.
//
// What the wallet knows is asked of the process that started it, in lines of JSON: {ask, method, params} is answered by
// {answer, result} or {answer, error}; {notify, notification} is a line to it. The first line has the connection URL.
import readline from "node:readline";
import WebSocket from "ws";

globalThis.WebSocket ??= WebSocket;
const [library, relay] = process.argv.slice(2);
const METHODS = ["get_info", "get_balance", "make_invoice", "lookup_invoice", "list_transactions", "pay_invoice"];
const NOTIFICATIONS = ["payment_received", "payment_sent"];
const waiting = new Map();

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** The answer of the process behind: {result} or {error: {code, message}}. */
function asked(method, params) {
  const ask = waiting.size + Math.random();
  return new Promise((resolve) => {
    waiting.set(ask, resolve);
    say({ ask, method, params: params ?? {} });
  });
}

async function alby() {
  const { generateSecretKey, getPublicKey } = await import("nostr-tools");
  const { NWCWalletService, NWCWalletServiceKeyPair } = await import("@getalby/sdk/nwc");
  const [wallet, client] = [generateSecretKey(), generateSecretKey()];
  const secret = Buffer.from(wallet).toString("hex");
  const keys = new NWCWalletServiceKeyPair(secret, getPublicKey(client));
  const service = new NWCWalletService({ relayUrls: [relay] });
  const handler = Object.fromEntries(
    METHODS.map((method) => [
      method.replace(/_(.)/g, (_, letter) => letter.toUpperCase()),
      async (params) => ({ result: undefined, error: undefined, ...(await asked(method, params)) }),
    ]),
  );
  await service.publishWalletServiceInfoEvent(secret, METHODS, NOTIFICATIONS);
  await service.subscribe(keys, handler);
  const named = `relay=${encodeURIComponent(relay)}&secret=${Buffer.from(client).toString("hex")}`;
  // The library sends no notifications: these are events by its own encryption and signature.
  const notify = async (type, notification) => {
    const content = await service.encrypt(keys, JSON.stringify({ notification_type: type, notification }), "nip44_v2");
    const tags = [["p", keys.clientPubkey]];
    const event = { kind: 23197, created_at: Math.floor(Date.now() / 1000), tags, content };
    await Promise.any(service.pool.publish([relay], await service.signEvent(event, secret)));
  };
  return [`nostr+walletconnect://${keys.walletPubkey}?${named}`, notify];
}

async function applesauce() {
  const { WalletService } = await import("applesauce-wallet-connect");
  const { createWalletError } = await import("applesauce-wallet-connect/helpers/error");
  const { RelayPool } = await import("applesauce-relay");
  const { PrivateKeySigner } = await import("applesauce-signers");
  const handle = (method) => async (params) => {
    const { result, error } = await asked(method, params);
    if (error !== undefined) throw createWalletError(error.code, error.message);
    return result;
  };
  const handlers = Object.fromEntries([...METHODS, "get_budget"].map((method) => [method, handle(method)]));
  const [signer, pool] = [new PrivateKeySigner(), new RelayPool()];
  const service = new WalletService({ relays: [relay], signer, handlers, pool, notifications: NOTIFICATIONS });
  await service.start();
  return [service.getConnectURI(), (type, notification) => service.notify(type, notification)];
}

const [url, notify] = await { alby, applesauce }[library]();
readline
  .createInterface({ input: process.stdin })
  .on("line", async (text) => {
    const { answer, notify: type, notification, ...told } = JSON.parse(text);
    if (type !== undefined) {
      await notify(type, notification);
      return;
    }
    waiting.get(answer)(told);
    waiting.delete(answer);
  })
  .on("close", () => process.exit(0));
say({ url });
