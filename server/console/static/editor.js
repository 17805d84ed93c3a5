// The editor of one file: line numbers with what was found at them, a way from a finding to its line, Ctrl+S, and
// keeping what was typed until it is saved. Without this script the file can be edited and saved all the same.
(() => {
  "use strict";
  const form = document.getElementById("editor");
  const text = document.getElementById("text");
  if (!form || !text) return;
  const gutter = document.getElementById("gutter");
  const findings = document.getElementById("findings");
  const key = `outrider-typed:${form.dataset.path}`;
  const store = {
    get: () => { try { return sessionStorage.getItem(key); } catch { return null; } },
    set: (value) => { try { sessionStorage.setItem(key, value); } catch { /* storage is full or switched off */ } },
    drop: () => { try { sessionStorage.removeItem(key); } catch { /* likewise */ } },
  };

  // --- line numbers ---
  const marks = () => {
    const found = new Map();
    for (const link of findings?.querySelectorAll("[data-line]") ?? []) {
      const line = Number(link.dataset.line);
      if (found.get(line) !== "error") found.set(line, link.dataset.severity);
    }
    return found;
  };
  const number = () => {
    const count = text.value.split("\n").length, found = marks();
    const lines = Array.from({ length: count }, (_, index) => {
      const line = document.createElement("span");
      line.textContent = String(index + 1);
      const severity = found.get(index + 1);
      if (severity) line.className = `mark-${severity}`;
      return line;
    });
    gutter.replaceChildren(...lines);
    gutter.scrollTop = text.scrollTop;
    if ([...found.values()].includes("error")) text.setAttribute("aria-invalid", "true");
    else text.removeAttribute("aria-invalid");
  };
  const go = (line) => {
    const before = text.value.split("\n").slice(0, line - 1);
    const start = before.reduce((sum, one) => sum + one.length + 1, 0);
    const end = text.value.indexOf("\n", start);
    text.focus();
    text.setSelectionRange(start, end < 0 ? text.value.length : end);
    const height = parseFloat(getComputedStyle(text).lineHeight);
    text.scrollTop = Math.max(0, (line - 6) * height);
  };
  form.classList.add("numbered");
  number();
  text.addEventListener("scroll", () => (gutter.scrollTop = text.scrollTop));
  document.addEventListener("htmx:after:swap", number);
  findings?.addEventListener("click", (event) => {
    const link = event.target.closest("[data-line]");
    if (link) go(Number(link.dataset.line));
  });
  const asked = /^#line-(\d+)$/.exec(location.hash);
  if (asked) go(Number(asked[1]));

  // --- what is typed is kept until it is saved ---
  const saved = text.value;
  let sending = false;
  const typed = () => text.value !== saved || "unsaved" in form.dataset;
  text.addEventListener("input", () => {
    number();
    if (typed()) store.set(text.value);
    else store.drop();
  });
  const kept = document.getElementById("kept");
  if ("saved" in form.dataset || store.get() === saved) store.drop();
  else if (store.get() !== null && !("unsaved" in form.dataset)) kept.hidden = false;
  document.getElementById("kept-restore").addEventListener("click", () => {
    text.value = store.get() ?? text.value;
    kept.hidden = true;
    text.focus();
    text.dispatchEvent(new Event("input", { bubbles: true }));
  });
  document.getElementById("kept-drop").addEventListener("click", () => {
    store.drop();
    kept.hidden = true;
    text.focus();
  });
  form.addEventListener("submit", () => (sending = true));
  addEventListener("beforeunload", (event) => {
    if (!sending && typed() && !text.readOnly) event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey || text.readOnly) return;
    event.preventDefault();
    form.requestSubmit();
  });
})();
