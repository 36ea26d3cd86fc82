// Markdown as elements. markdown-it reads it with HTML off; each of its tokens becomes an element of this list here,
// so that no text is ever parsed as HTML.

import markdownIt from "./markdown-it.js";
import { copyButton, h } from "./dom.js";

const reader = markdownIt({ html: false, linkify: false, typographer: false });
const ALLOWED = new Set(["p", "ul", "ol", "li", "blockquote", "em", "strong", "s", "table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5", "h6"]);

export function markdown(text) {
  const root = h("div", { class: "markdown" });
  const tokens = reader.parse(text, {});
  level(tokens);
  grow(root, tokens);
  return root;
}

function level(tokens) {
  // Headings of an answer are below those of the page, and none is left out on the way down.
  let last = 2;
  for (const token of tokens) {
    if (token.type === "heading_open") last = Math.min(Number(token.tag[1]) + 2, last + 1, 6);
    if (token.type === "heading_open" || token.type === "heading_close") token.tag = `h${last}`;
  }
}

function grow(root, tokens) {
  let at = root;
  for (const token of tokens) {
    if (token.type === "inline") grow(at, token.children);
    else if (token.nesting === 1) {
      const element = opened(token);
      // A table scrolls by itself on a narrow screen.
      at.append(token.tag === "table" ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, element) : element);
      at = element;
    } else if (token.nesting === -1) {
      at = at.parentElement ?? root;
      if (at.className === "scroll") at = at.parentElement;
    } else at.append(leaf(token));
  }
}

function opened(token) {
  // Paragraphs of a tight list are hidden.
  if (token.hidden) return h("span");
  if (token.type === "link_open") return link(token.attrGet("href"));
  const { tag } = token;
  // Each outermost part runs in the direction of its first letter; "auto" would not look into parts that have their own.
  const element = h(ALLOWED.has(tag) ? tag : "span", { dir: token.block && token.level === 0 && "auto" });
  const start = Number(token.attrGet("start"));
  if (tag === "ol" && Number.isInteger(start) && start > 1) element.start = start;
  return element;
}

function link(href) {
  // Other schemes can run scripts or open programs.
  if (!/^https:\/\//i.test(href || "")) return h("span");
  return h("a", { href, rel: "noopener noreferrer nofollow", target: "_blank" });
}

function block(text, info) {
  const language = info.trim().split(/\s+/)[0].slice(0, 24);
  return h("div", { class: "block" },
    h("div", { class: "block-top" }, h("span", {}, language || "Code"), copyButton(text, "Copy", "the code")),
    h("pre", { tabindex: "0", dir: "ltr", role: "region", "aria-label": language ? `Code in ${language}` : "Code" }, h("code", {}, text)));
}

function leaf(token) {
  if (token.type === "code_inline") return h("code", {}, token.content);
  if (token.type === "fence" || token.type === "code_block") return block(token.content, token.info || "");
  if (token.type === "hardbreak") return h("br");
  if (token.type === "softbreak") return "\n";
  if (token.type === "hr") return h("hr");
  // No picture is loaded: its address could be anywhere.
  return token.content;
}
