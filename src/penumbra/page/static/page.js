// The page itself: colours, copying, the marks of figures, and what an address opens.
(() => {
  "use strict";
  const { element, load, cell } = penumbra;
  const ROWS = 300;

  // ------------------------------------------------------------ colours

  const page = document.documentElement;
  const themeSwitch = document.querySelector("[data-theme-switch]");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

  function dark() {
    return page.dataset.theme ? page.dataset.theme === "dark" : prefersDark.matches;
  }
  function told() {
    themeSwitch.setAttribute("aria-pressed", String(dark()));
  }
  themeSwitch.addEventListener("click", () => {
    page.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem("penumbra-theme", page.dataset.theme);
    } catch {
      // A browser may keep nothing for pages from the disk.
    }
    told();
  });
  prefersDark.addEventListener("change", told);
  told();

  // ------------------------------------------------------------ copying

  const said = document.getElementById("said");

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = element("textarea", { class: "hidden", readonly: true });
      field.value = text;
      (document.querySelector("dialog[open]") || document.body).append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const before = button.textContent;
    const done = await copy(button.dataset.copy);
    button.focus();
    button.textContent = done ? "copied" : "not copied";
    said.textContent = done ? `Copied ${button.dataset.copy.slice(0, 64)}` : "It could not be copied.";
    setTimeout(() => { button.textContent = before; }, 1200);
  });

  // ------------------------------------------------------------ marks of figures

  const COLUMNS = ["panel", "mark", "name", "x", "y"];

  async function marks(details) {
    const base = details.dataset.marks;
    const box = details.querySelector(".scroll");
    const about = await load(base);
    const body = element("tbody");
    const heads = new Set();
    const parts = [];
    for (let part = 0; part * about.size < about.count; part += 1) {
      parts.push(await load(`${base}/${part}`));
      for (const key of COLUMNS) if (key in parts[part].columns) heads.add(key);
    }
    const shown = COLUMNS.filter((key) => heads.has(key));
    const rounded = (text) => (text === "" || Number.isNaN(Number(text)) ? text : String(Number(Number(text).toPrecision(6))));
    let next = 0;
    const more = element("button", { type: "button", class: "more", onclick: () => grow() });
    function grow() {
      const last = Math.min(next + ROWS, about.count);
      for (; next < last; next += 1) {
        const part = parts[Math.floor(next / about.size)];
        const row = next % about.size;
        const text = part.shown[row];
        const number = about.linked[next]
          ? element("a", { class: ["supported", "contradicted", "undecided"].includes(text) ? `n verdict ${text}` : "n", href: `#n/${[about.study, about.kind, about.exhibit, cell(part.columns.id, row)].map(encodeURIComponent).join("/")}` }, text)
          : element("span", { class: "quiet" }, (part.columns.status && cell(part.columns.status, row)) || "–");
        body.append(element("tr", {}, ...shown.map((key) => element("td", { class: key === "x" || key === "y" ? "right" : null }, part.columns[key] ? (key === "x" || key === "y" ? rounded(cell(part.columns[key], row)) : cell(part.columns[key], row)) : "")), element("td", { class: "right" }, number)));
      }
      more.textContent = `Show ${Math.min(ROWS, about.count - next)} more of ${about.count - next}`;
      if (next >= about.count) more.remove();
    }
    grow();
    box.append(element("table", {}, element("thead", {}, element("tr", {}, ...shown.map((key) => element("th", { scope: "col", class: key === "x" || key === "y" ? "right" : null }, key)), element("th", { scope: "col", class: "right" }, "value"))), body));
    if (next < about.count) details.append(more);
    reachable();
  }
  for (const details of document.querySelectorAll("details[data-marks]")) {
    details.addEventListener("toggle", () => {
      if (!details.open || details.dataset.filled) return;
      details.dataset.filled = "yes";
      marks(details).catch((error) => details.querySelector(".scroll").append(element("p", { class: "missing" }, error.message)));
    });
  }

  // Boxes that scroll can be reached and scrolled by keyboard, those that do not are no stop on the way.
  function reachable() {
    for (const box of document.querySelectorAll(".scroll")) {
      if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", "Table that scrolls");
      } else {
        box.removeAttribute("tabindex");
        box.removeAttribute("role");
        box.removeAttribute("aria-label");
      }
    }
  }
  window.addEventListener("resize", reachable);
  reachable();

  // ------------------------------------------------------------ dialogs and addresses

  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  for (const dialog of document.querySelectorAll("dialog")) {
    // A click beside the dialog closes it.
    dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
  }
  for (const button of document.querySelectorAll("[data-open-search]")) button.addEventListener("click", () => penumbra.search.open());
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input, textarea");
    const typing = field && field.checkVisibility();
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      penumbra.search.open();
    }
  });

  function follow() {
    if (/^#[njc]\//.test(location.hash)) penumbra.trail.open(location.hash);
    else if (penumbra.trail.dialog.open) penumbra.trail.dialog.close();
    // What is folded away opens where an address leads into it.
    const target = document.querySelector(":target");
    if (target) for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  }
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    // The same address again: a trail that was closed opens again.
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) follow();
  });
  const contents = document.querySelector(".toc details");
  if (contents && window.matchMedia("(max-width: 1080px)").matches) contents.open = false;
  follow();
})();
