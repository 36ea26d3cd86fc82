// A wallet over js-lnurl: scans a link, and has an invoice of its own paid.
import lnurl from "js-lnurl";

const [link, invoice] = process.argv.slice(2);
const params = await lnurl.getParams(link);
let answer = null;
if (params.tag === "withdrawRequest" && params.maxWithdrawable > 0) {
  const callback = new URL(params.callback);
  callback.searchParams.set("k1", params.k1);
  callback.searchParams.set("pr", invoice);
  answer = await (await fetch(callback)).json();
}
console.log(JSON.stringify({ params, answer }));
