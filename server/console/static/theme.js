// Sets light or dark before the first paint: the person's choice, else the system's.
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem("outrider-theme");
    } catch {
      return null; // storage is switched off
    }
  };
  const apply = () => root.setAttribute("data-bs-theme", chosen() ?? (dark.matches ? "dark" : "light"));
  apply();
  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply);
})();
