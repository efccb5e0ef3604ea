// Colours before the first paint: what the reader chose here, else what the system prefers.
(() => {
  "use strict";
  let chosen = null;
  try {
    chosen = localStorage.getItem("penumbra-theme");
  } catch {
    // A browser may keep nothing for pages from the disk.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
