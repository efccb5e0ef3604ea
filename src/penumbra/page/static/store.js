// The data, loaded part by part through script tags, which also work on pages that are opened from the disk.
(() => {
  "use strict";
  const root = document.documentElement.dataset.root;
  const parts = new Map();
  const waiting = new Map();

  function put(key, content) {
    parts.set(key, content);
  }

  function script(path) {
    return new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = root + path;
      tag.onload = () => { tag.remove(); resolve(); };
      tag.onerror = () => { tag.remove(); reject(new Error(`${path} is missing from this page's folder`)); };
      document.head.append(tag);
    });
  }

  function load(key) {
    if (parts.has(key)) return Promise.resolve(parts.get(key));
    if (!waiting.has(key)) {
      const path = `data/${key.split("/").map(encodeURIComponent).join("/")}.js`;
      waiting.set(key, script(path).then(() => {
        if (!parts.has(key)) throw new Error(`${path} holds something else`);
        return parts.get(key);
      }).finally(() => waiting.delete(key)));
    }
    return waiting.get(key);
  }

  // A column is a list, or its different texts and which of them stands where.
  function cell(column, row) {
    return Array.isArray(column) ? column[row] : column.texts[column.at[row]];
  }

  // An element with attributes and children; texts become text nodes, never markup.
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") made.className = value;
      else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value === true ? "" : String(value));
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  }

  globalThis.penumbra = { put, load, script, cell, element, root };
})();
