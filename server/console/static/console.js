// What plain HTML cannot do: the theme switch, times that stay current, keys, and where the focus goes after an answer.
(() => {
  "use strict";

  // --- theme ---
  const theme = document.getElementById("theme");
  const isDark = () => document.documentElement.getAttribute("data-bs-theme") === "dark";
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.hidden = false;
  showTheme();
  theme.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.setAttribute("data-bs-theme", next);
    try {
      localStorage.setItem("outrider-theme", next);
    } catch {
      // storage is switched off: the choice holds for this page
    }
    showTheme();
  });
  document.querySelectorAll("[data-needs-script]").forEach((element) => (element.hidden = false));

  // --- times: relative words follow the clock; exact ones are in the reader's own zone ---
  const day = 86400; // each: from so many seconds on, in units of so many, called so; as shared/formats.py has it
  const units = [[730 * day, 365 * day, "years"], [60 * day, 30 * day, "months"], [day, day, "d"], [3600, 3600, "h"], [60, 60, "min"], [1, 1, "s"]];
  const relative = (seconds) => {
    const size = Math.abs(seconds);
    if (size < 5) return "just now";
    const [, unit, name] = units.find(([least]) => size >= least);
    const span = `${Math.floor(size / unit)} ${name}`;
    return seconds < 0 ? `in ${span}` : `${span} ago`;
  };
  // The hub's clock, not this machine's, is what the words are relative to.
  const offset = Date.parse(document.documentElement.dataset.now ?? "") - Date.now() || 0;
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
  const tick = () => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      const words = "clock" in time.dataset ? clock.format(at) : relative((Date.now() + offset - at.getTime()) / 1000);
      if (time.textContent !== words) time.textContent = words;
      const title = exact.format(at);
      if (time.title !== title) time.title = title;
    }
  };
  tick();
  setInterval(tick, 5000);
  document.addEventListener("htmx:after:swap", tick);

  // --- approvals: keys work while a card has the focus, so they disturb no one else ---
  const cards = () => [...document.querySelectorAll("[data-card]")];
  const focusCard = (index) => {
    const all = cards();
    const card = all[Math.max(0, Math.min(index, all.length - 1))];
    if (!card) return false;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
    return true;
  };
  const open = (card, choice) => {
    const details = card.querySelector(`[data-choice="${choice}"]`);
    if (!details) return;
    details.open = true;
    details.querySelector("select, input:not([type=hidden]), textarea")?.focus();
  };
  document.addEventListener("keydown", (event) => {
    const card = event.target.closest?.("[data-card]");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      card.querySelectorAll("details.choice[open]").forEach((details) => (details.open = false));
      card.focus();
      return;
    }
    if (event.target.closest("input, textarea, select")) return;
    const place = cards().indexOf(card);
    const actions = {
      j: () => focusCard(place + 1),
      k: () => focusCard(place - 1),
      a: () => card.querySelector(".answer-approve button")?.focus(),
      c: () => open(card, "correct"),
      d: () => open(card, "deny"),
    };
    if (event.key in actions) {
      event.preventDefault();
      actions[event.key]();
    }
  });

  // After an answer its card is gone: go on with the one that took its place, or with the page.
  let answered = null;
  const lost = () => !document.activeElement || document.activeElement === document.body;
  document.addEventListener("submit", (event) => {
    const card = event.target.closest?.("[data-card]");
    answered = card && { card, place: cards().indexOf(card) };
    card?.querySelector(".answer-error")?.replaceChildren();
  }, true);
  document.addEventListener("htmx:after:swap", () => {
    if (!answered) return;
    const { card, place } = answered;
    if (card.isConnected) {
      if (!card.querySelector("[role=alert]")) return; // some other part was swapped; the answer is on its way
      if (lost()) card.focus();
    } else if (lost() && !focusCard(place)) {
      document.getElementById("main")?.focus();
    }
    answered = null;
  });
})();
