// The operator's page works without this. It only loads the page again every minute, if the operator wants that.
const KEY = "satmeter-operator-every-minute";
const box = document.getElementById("every");

function kept() {
  try {
    return localStorage.getItem(KEY) === "yes";
  } catch {
    return false;
  }
}

function keep(wanted) {
  try {
    localStorage.setItem(KEY, wanted ? "yes" : "no");
  } catch {
    // Without storage the choice holds until the next load.
  }
}

if (box) {
  box.closest("label").hidden = false;
  box.checked = kept();
  box.addEventListener("change", () => keep(box.checked));
  setInterval(() => {
    const reading = document.activeElement?.closest("form, details[open]");
    if (box.checked && !document.hidden && !reading) location.replace(location.pathname + location.search);
  }, 60_000);
}
