// What the theme leaves out: wide tables scroll by key, too, and a button to copy is not a part of the navigation.
new MutationObserver(() => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) wide.tabIndex = 0;
  for (const buttons of document.querySelectorAll("nav.md-code__nav:not([role])")) buttons.role = "none";
}).observe(document.body, { childList: true, subtree: true });
