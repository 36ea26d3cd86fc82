// Cases of a driver: each prints one line of JSON with `ok` or what was wrong.
export const { SERVER, KEY, EMPTY_KEY, BAD_KEY } = process.env;
export const WAY = process.argv[2];
export const SONNET = "claude-sonnet-5-5";
export const HAIKU = "claude-haiku-5-5";
export const QUESTION = "Name three uses of a sextant.";
export const CALL = '[[call weather {"city": "Rome"}]] How is the weather in Rome?';
export const WEATHER = "Rome has 21 degrees and rain";

export function check(condition, found) {
  if (!condition) throw new Error(`found ${typeof found === "string" ? found : JSON.stringify(found)}`);
}

// Returns the error of a promise that must fail, with this status if it has one.
export async function fails(promise, status, statusOf = (error) => error.status) {
  let error;
  try {
    await promise;
  } catch (found) {
    error = found;
  }
  check(error !== undefined, "that it did not fail");
  if (status !== undefined && statusOf(error) !== status) throw error;
  return error;
}

// Returns the hash in a BOLT11 invoice.
function paymentHash(invoice) {
  const letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
  const words = [...invoice.slice(invoice.lastIndexOf("1") + 1)].map((letter) => letters.indexOf(letter));
  let place = 7; // The time.
  while (words[place] !== 1) place += 3 + words[place + 1] * 32 + words[place + 2];
  const bits = words.slice(place + 3, place + 55).map((word) => word.toString(2).padStart(5, "0")).join("");
  return bits.slice(0, 256).replace(/.{4}/g, (four) => Number.parseInt(four, 2).toString(16));
}

// Pays as a wallet does, from the server's own stub node, and returns the preimage.
export async function pay(invoice) {
  const answer = await fetch(`${SERVER}/dev/stub/pay/${paymentHash(invoice)}`, { method: "POST" });
  const { preimage } = await answer.json();
  check(preimage !== undefined, "that the stub node tells no preimage");
  return preimage;
}

export async function run(cases) {
  for (const name of process.argv.slice(3)) {
    let result = "ok";
    try {
      await cases[name]();
    } catch (error) {
      console.error(error);
      result = `${error?.name}: ${error?.message ?? error}`.slice(0, 600);
    }
    process.stdout.write("\n" + JSON.stringify({ case: name, result }) + "\n");
  }
  process.exit(0);
}
