// Search over studies, tables, figures, candidates, cases and numbers; its index is made when it is first opened.
(() => {
  "use strict";
  const { element, load, script, cell } = penumbra;
  const dialog = document.getElementById("search");
  const field = document.getElementById("query");
  const hits = document.getElementById("hits");
  const note = document.getElementById("hits-note");
  const MOST = 60;
  const WEIGHT = { study: 6, table: 5, figure: 5, candidate: 4, case: 3, number: 1 };
  let index = null, making = null, entries = [], active = -1;

  async function make() {
    await script("assets/vendor/minisearch/minisearch.js");
    const words = (text) => text.toLowerCase().split(/[^\p{L}\p{N}.%±]+/u).filter(Boolean);
    const made = new MiniSearch({ fields: ["title", "about"], tokenize: words, processTerm: (term) => term, searchOptions: { boost: { title: 3 }, prefix: true, combineWith: "AND", boostDocument: (id) => WEIGHT[entries[id].kind] || 1 } });
    for (let part = 0, parts = 1; part < parts; part += 1) {
      const content = await load(`search/${part}`);
      parts = content.parts;
      const [kind, title, about, link] = content.columns;
      const size = Array.isArray(kind) ? kind.length : kind.at.length;
      const first = entries.length;
      for (let k = 0; k < size; k += 1) entries.push({ id: first + k, kind: cell(kind, k), title: cell(title, k), about: cell(about, k), link: cell(link, k) });
      await made.addAllAsync(entries.slice(first), { chunkSize: 2000 });
    }
    index = made;
  }

  function show() {
    const query = field.value.trim();
    active = -1;
    field.removeAttribute("aria-activedescendant");
    hits.replaceChildren();
    if (!index || !query) {
      note.textContent = index ? `${entries.length.toLocaleString("en")} entries` : "Reading the index";
      field.setAttribute("aria-expanded", "false");
      return;
    }
    const found = index.search(query);
    for (const [k, { id }] of found.slice(0, MOST).entries()) {
      const entry = entries[id];
      const link = entry.link.startsWith("#") ? entry.link : penumbra.root + entry.link;
      hits.append(element("li", { id: `hit-${k}`, role: "option", "aria-selected": "false", "data-link": link },
        element("span", { class: `kind kind-${entry.kind}` }, entry.kind), element("span", { class: "hit" }, element("strong", {}, entry.title), element("span", { class: "quiet" }, entry.about))));
    }
    note.textContent = found.length > MOST ? `the best ${MOST} of ${found.length.toLocaleString("en")}` : found.length === 1 ? "1 found" : `${found.length} found`;
    field.setAttribute("aria-expanded", String(found.length > 0));
    if (found.length) mark(0);
  }

  function mark(k) {
    const every = hits.children;
    if (!every.length) return;
    if (active >= 0) every[active]?.setAttribute("aria-selected", "false");
    active = (k + every.length) % every.length;
    every[active].setAttribute("aria-selected", "true");
    every[active].scrollIntoView({ block: "nearest" });
    field.setAttribute("aria-activedescendant", every[active].id);
  }

  function go(hit) {
    if (!hit) return;
    const link = hit.dataset.link;
    dialog.close();
    if (link.startsWith("#")) location.hash = link;
    else location.href = link;
  }

  async function open() {
    if (!dialog.open) dialog.showModal();
    field.focus();
    field.select();
    show();
    if (!index) {
      making ??= make();
      try {
        await making;
      } catch (error) {
        note.textContent = error.message;
        making = null;
        return;
      }
      show();
    }
  }

  field.addEventListener("input", show);
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); mark(active + 1); }
    else if (event.key === "ArrowUp") { event.preventDefault(); mark(active - 1); }
    else if (event.key === "Enter") { event.preventDefault(); go(hits.children[active]); }
  });
  hits.addEventListener("click", (event) => go(event.target.closest("li")));

  penumbra.search = { open, dialog };
})();
