// The reference: Swagger UI over this version's document, with a search in all of it and the reader's own server.

const place = document.getElementById("ui");
const said = document.getElementById("said");
const address = document.getElementById("address");

const textOf = (operation) => ["path", "method"].map((name) => operation.get(name)).concat(
  ["summary", "description", "operationId"].map((name) => operation.getIn(["operation", name]))).join(" ").toLowerCase();

// Swagger UI's own filter knows the names of the tags alone.
const search = () => ({
  fn: {
    opsFilter: (tagged, phrase) => {
      const words = phrase.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = (operation) => { const text = textOf(operation); return words.every((word) => text.includes(word)); };
      return tagged.map((tag) => tag.set("operations", tag.get("operations").filter(fits))).filter((tag) => tag.get("operations").size);
    },
  },
});

function render(document, server) {
  place.replaceChildren();
  SwaggerUIBundle({
    spec: { ...document, servers: [{ url: server }] },
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    filter: true,
    plugins: [search],
    presets: [SwaggerUIBundle.presets.apis],
    tryItOutEnabled: false,
    // Without this, the document is sent to a host of Swagger's for a badge.
    validatorUrl: null,
    // A macaroon is money: it is forgotten with the page.
    persistAuthorization: false,
  });
}

// What Swagger UI leaves to be mended, each time that it draws: fields without a name, and code that no key scrolls.
function label() {
  const search = place.querySelector(".operation-filter-input");
  search?.setAttribute("aria-label", "Search paths");
  search?.setAttribute("placeholder", "Search paths, summaries and descriptions");
  for (const heading of place.querySelectorAll("h3.opblock-tag, .models > h4")) heading.ariaLevel = "2";
  place.querySelector(".filter-container")?.setAttribute("role", "search");
  for (const part of place.querySelectorAll(".information-container")) { part.role = "region"; part.ariaLabel = "About this API"; }
  for (const code of place.querySelectorAll("pre:not([tabindex])")) code.tabIndex = 0;
}

async function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dress();
  dark.addEventListener("change", dress);
  new MutationObserver(label).observe(place, { childList: true, subtree: true });
  const answer = await fetch("../openapi.json");
  const description = await answer.json();
  // Of several keys the dialog asks for the one that most paths want first.
  const schemes = description.components.securitySchemes;
  description.components.securitySchemes = { macaroon: schemes.macaroon, ...schemes };
  render(description, address.value);
  document.getElementById("server").addEventListener("submit", async (event) => {
    event.preventDefault();
    const server = address.value.replace(/\/+$/, "");
    render(description, server);
    try {
      const ready = await fetch(`${server}/healthz`);
      said.textContent = ready.ok ? `Reached ${server}.` : `${server} answered ${ready.status}: is it a Satmeter server?`;
    } catch {
      said.textContent = `${server} can't be reached from this page. Is it running, and does it allow this page's origin (SATMETER_CORS_ORIGINS)?`;
    }
  });
}

start().catch(() => { said.textContent = "The document did not load. Reload the page."; });
