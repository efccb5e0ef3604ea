// The trail of a number, a job or a candidate as a graph of its jobs: laid out by dagre, drawn as buttons and lines.
(() => {
  "use strict";
  const { element, load, cell } = penumbra;
  const { ofNumber, ofJob, ofSource, ofStack, ofFile, WORDS } = penumbra.told;
  const dialog = document.getElementById("trail");
  const title = document.getElementById("trail-title");
  const kicker = document.getElementById("trail-kicker");
  const place = document.getElementById("graph");
  const told = document.getElementById("told");
  const MOST = 3; // jobs of a kind that are drawn one by one; more are drawn as one stack, out of which the reader takes some
  const WIDTH = 172, HEIGHT = 46;
  let current = null;
  let asked = 0; // the last address that was asked for: one that is slower to load than the next is not shown

  // ------------------------------------------------------------ what the address names

  async function root(hash) {
    const [, kind, rest] = hash.match(/^#([njc])\/(.*)$/) || [];
    if (!kind) return null;
    const graph = await load("graph");
    if (kind === "n") {
      const [study, sort, exhibit, id] = rest.split("/").map(decoded);
      if (!id) throw new Error("This address names no number.");
      return numberRoot(graph, study, sort, exhibit, id);
    }
    if (kind === "j") {
      const [path, filter = ""] = rest.split("?").map(decoded);
      const at = graph.names.indexOf(path);
      if (at < 0) throw new Error(`There is no job named ${path}.`);
      const only = filter ? `${filter}/` : "";
      return { graph, jobs: ancestors(graph, [at]), first: at, only, title: only ? filter : label(graph, at), kicker: only ? `case of ${graph.wildcards[at].dataset}` : WORDS[graph.rules[at]] || graph.rules[at] };
    }
    const name = decoded(rest);
    const runs = graph.names.map((_, at) => at).filter((at) => graph.wildcards[at].candidate === name && graph.rules[at] === "evaluate");
    if (!runs.length) throw new Error(`No number rests on a run of ${name}.`);
    return { graph, jobs: ancestors(graph, runs), first: runs.length > MOST ? `evaluate|${graph.wildcards[runs[0]].dataset}|${name}` : runs[0], title: name, kicker: "candidate: its runs and all that they rest on" };
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      throw new Error("This address is damaged: a % in it stands for nothing.");
    }
  }

  async function numberRoot(graph, study, sort, exhibit, id) {
    const base = `numbers/${study}/${sort}/${exhibit}`;
    const about = await load(base);
    const guess = about.size >= about.count ? 0 : Math.floor((parseInt(id.slice(1), 10) - 1) / about.size);
    const part = await load(`${base}/${guess}`);
    const ids = part.columns.id;
    let row = (parseInt(id.slice(1), 10) - 1) - guess * about.size;
    if (cell(ids, row) !== id) row = part.shown.findIndex((_, k) => cell(ids, k) === id);
    if (row < 0) throw new Error(`${study}/${exhibit} has no number ${id}.`);
    const line = {};
    for (const [key, column] of Object.entries(part.columns)) line[key] = cell(column, row);
    const group = part.groups[part.group[row]];
    const number = { study, exhibit, id, kind: about.kind, told: line, shown: part.shown[row], runs: group.runs, files: group.files.map((k) => part.files[k]) };
    const where = about.kind === "figure" ? [line.panel, line.mark, line.name] : [line.row, line.column];
    return { graph, number, owner: about.job, jobs: new Set(group.jobs), first: "number", title: where.filter(Boolean).join(" · ") || id, kicker: `${about.title} · ${study}` };
  }

  function ancestors(graph, jobs) {
    const found = new Set();
    const waiting = [...jobs];
    while (waiting.length) {
      const at = waiting.pop();
      if (!found.has(at)) { found.add(at); waiting.push(...graph.parents[at]); }
    }
    return found;
  }

  function label(graph, at) {
    const w = graph.wildcards[at];
    if (graph.rules[at] === "split") return `${w.split} · ${w.dataset}`;
    const own = w.table ?? w.figure ?? w.candidate ?? w.fusion ?? w.study ?? w.dataset;
    const member = w.member === undefined || w.member === "1" ? null : `member ${w.member}`;
    const words = [own, w.split === undefined ? null : `split ${w.split}`, member, w.interpolation];
    return words.filter(Boolean).join(" · ") || graph.names[at].split("/").slice(1).join(" · ");
  }

  // ------------------------------------------------------------ nodes and edges

  // How jobs of one rule may be put together: each by itself, those of a candidate, of a data set, all.
  function gatherings(graph, rule) {
    const { wildcards } = graph;
    const dataset = (at) => wildcards[at].dataset ?? "";
    const candidate = (at) => wildcards[at].candidate ?? "";
    return [
      { key: (at) => `${at}`, label: (at) => label(graph, at) },
      { key: (at) => [rule, dataset(at), candidate(at)].join("|"), label: (at) => candidate(at) || dataset(at) || rule },
      { key: (at) => [rule, dataset(at)].join("|"), label: (at) => dataset(at) || rule },
      { key: () => rule, label: () => WORDS[rule] || rule },
    ];
  }

  function nodes(view) {
    const { graph, jobs, pinned } = view;
    const of = new Map(); // job -> key of its node
    const made = new Map(); // key -> node
    const put = (at, key, text) => {
      if (!made.has(key)) made.set(key, { key, rule: graph.rules[at], label: text, members: [] });
      made.get(key).members.push(at);
      of.set(at, key);
    };
    const byRule = new Map();
    const opened = new Set(); // rules of which the reader took some jobs out of their stack: the rest stays one
    for (const at of jobs) {
      const rule = graph.rules[at];
      if (pinned.has(at)) {
        put(at, `${at}`, label(graph, at));
        opened.add(rule);
      } else {
        if (!byRule.has(rule)) byRule.set(rule, []);
        byRule.get(rule).push(at);
      }
    }
    for (const [rule, members] of byRule) {
      const ways = gatherings(graph, rule);
      const most = opened.has(rule) ? 1 : MOST;
      const way = ways.find(({ key }) => new Set(members.map(key)).size <= most) || ways.at(-1);
      for (const at of members) put(at, way.key(at), way.label(at));
    }
    for (const node of made.values()) if (node.members.length === 1) node.label = label(graph, node.members[0]);
    const edges = new Set();
    for (const at of jobs) {
      for (const parent of graph.parents[at]) {
        if (jobs.has(parent) && of.get(parent) !== of.get(at)) edges.add(`${of.get(parent)}\n${of.get(at)}`);
      }
      const { dataset } = graph.wildcards[at];
      if (graph.rules[at] === "download" && graph.sources[dataset] && of.get(at) === `${at}`) {
        const key = `source ${dataset}`;
        made.set(key, { key, rule: "source", label: graph.sources[dataset].words, members: [] });
        edges.add(`${key}\n${of.get(at)}`);
      }
    }
    if (view.number) {
      made.set("number", { key: "number", rule: "number", label: view.number.shown, members: [] });
      edges.add(`${of.get(view.owner)}\nnumber`);
      for (const [path, , , job] of view.number.files) {
        if (job !== null) continue;
        made.set(`file ${path}`, { key: `file ${path}`, rule: "file", label: path.split("/").at(-1), members: [] });
        edges.add(`file ${path}\n${of.get(view.owner)}`);
      }
    }
    return { made, of, edges: [...edges].map((edge) => edge.split("\n")) };
  }

  // The edges that no longer way stands for: enough to draw, the others are shown with the node that is chosen.
  function reduced(edges) {
    const up = new Map();
    for (const [from, to] of edges) up.set(to, [...(up.get(to) || []), from]);
    const beyond = new Map(); // node -> all that it rests on, through whatever
    const all = (key) => {
      if (!beyond.has(key)) {
        const found = new Set();
        beyond.set(key, found);
        for (const next of up.get(key) || []) { found.add(next); for (const far of all(next)) found.add(far); }
      }
      return beyond.get(key);
    };
    return edges.filter(([from, to]) => !(up.get(to) || []).some((other) => other !== from && all(other).has(from)));
  }

  function count(node) {
    return node.members.length > 1 ? ` × ${node.members.length}` : "";
  }

  function draw() {
    const view = current;
    const { made, of, edges } = nodes(view);
    view.nodes = made;
    view.of = of;
    const narrow = window.matchMedia("(max-width: 760px)").matches;
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "BT", nodesep: narrow ? 12 : 20, ranksep: 24, marginx: 12, marginy: 12 });
    graph.setDefaultEdgeLabel(() => ({}));
    const width = narrow ? 148 : WIDTH;
    for (const key of [...made.keys()].sort()) graph.setNode(key, { width, height: HEIGHT });
    for (const [from, to] of reduced(edges)) graph.setEdge(from, to);
    dagre.layout(graph);
    const size = graph.graph();
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", size.width); svg.setAttribute("height", size.height);
    svg.setAttribute("aria-hidden", "true");
    view.lines = new Map();
    for (const edge of graph.edges()) {
      const points = graph.edge(edge).points;
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("d", curve(points));
      svg.append(line);
      view.lines.set(`${edge.v}\n${edge.w}`, line);
    }
    view.svg = svg;
    const canvas = element("div", { class: "canvas" }, svg);
    canvas.style.width = `${size.width}px`;
    canvas.style.height = `${size.height}px`;
    view.edges = edges;
    for (const node of made.values()) {
      const at = graph.node(node.key);
      node.x = at.x; node.y = at.y;
      node.button = element("button", { type: "button", class: `node rule-${node.rule}${node.members.length > 1 ? " stack" : ""}`, tabindex: "-1", "data-key": node.key, title: node.label, "aria-label": `${WORDS[node.rule] || node.rule}${count(node)}: ${node.label}` },
        element("span", { class: "rule" }, `${WORDS[node.rule] || node.rule}${count(node)}`), element("span", { class: "what" }, node.label));
      node.button.style.left = `${at.x - width / 2}px`;
      node.button.style.top = `${at.y - HEIGHT / 2}px`;
      node.button.style.width = `${width}px`;
      canvas.append(node.button);
    }
    place.replaceChildren(canvas);
  }

  function direct(from, to) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const middle = (from.y + to.y) / 2;
    line.setAttribute("d", `M${to.x},${to.y}C${to.x},${middle} ${from.x},${middle} ${from.x},${from.y}`);
    line.setAttribute("class", "direct");
    return line;
  }

  function curve(points) {
    const [first, ...rest] = points;
    let path = `M${first.x},${first.y}`;
    for (let k = 0; k < rest.length - 1; k += 1) {
      const end = k === rest.length - 2 ? rest[k + 1] : { x: (rest[k].x + rest[k + 1].x) / 2, y: (rest[k].y + rest[k + 1].y) / 2 };
      path += `Q${rest[k].x},${rest[k].y} ${end.x},${end.y}`;
    }
    return path;
  }

  // ------------------------------------------------------------ choosing a node

  async function choose(key, focus = true) {
    const view = current;
    const node = view.nodes.get(key);
    if (!node) return;
    view.chosen = key;
    const near = new Set();
    for (const line of view.svg.querySelectorAll(".direct")) line.remove();
    for (const [from, to] of view.edges) {
      const touches = from === key || to === key;
      const line = view.lines.get(`${from}\n${to}`);
      line?.classList.toggle("near", touches);
      if (touches) near.add(from).add(to);
      if (touches && !line) view.svg.append(direct(view.nodes.get(from), view.nodes.get(to)));
    }
    for (const other of view.nodes.values()) {
      other.button.classList.toggle("chosen", other === node);
      other.button.classList.toggle("near", other !== node && near.has(other.key));
      other.button.tabIndex = other === node ? 0 : -1;
      if (other === node) other.button.setAttribute("aria-current", "true");
      else other.button.removeAttribute("aria-current");
    }
    if (focus) node.button.focus({ preventScroll: true });
    node.button.scrollIntoView({ block: "nearest", inline: "nearest" });
    const at = node.members.length === 1 ? node.members[0] : null;
    let content;
    try {
      content = node.rule === "number" ? await ofNumber(view.number, view.graph, walk)
        : node.rule === "file" ? ofFile(view.number.files.find(([path]) => key === `file ${path}`))
        : node.rule === "source" ? [ofSource(view.graph.sources[key.slice("source ".length)])]
        : at !== null ? await ofJob(at, view.graph, walk, view.only && at === view.first ? view.only : "")
        : ofStack([...node.members].sort((a, b) => a - b), view.graph, walk);
    } catch (error) {
      content = [element("p", { class: "missing" }, error.message)];
    }
    if (current !== view || view.chosen !== key) return;
    const heading = node.rule === "number" ? "The number" : `${(WORDS[node.rule] || node.rule)}${count(node)}`;
    const reads = [...new Set(view.edges.filter(([, to]) => to === key).map(([from]) => from))];
    const feeds = [...new Set(view.edges.filter(([from]) => from === key).map(([, to]) => to))];
    told.replaceChildren(element("h3", { class: "told-title" }, heading, node.rule === "number" ? "" : element("span", { class: "quiet" }, ` ${node.label}`)),
      steps("rests on", reads, view), steps("used by", feeds, view), ...content);
    told.scrollTop = 0;
    told.dataset.of = key;
  }

  function steps(word, keys, view) {
    if (!keys.length) return "";
    const line = element("p", { class: "steps" }, element("span", { class: "quiet" }, `${word} `));
    for (const key of keys.slice(0, 8)) {
      const node = view.nodes.get(key);
      line.append(element("button", { type: "button", class: "go", onclick: () => choose(key) }, `${WORDS[node.rule] || node.rule}${count(node)} ${node.rule === "number" ? "" : node.label}`));
    }
    if (keys.length > 8) line.append(element("span", { class: "quiet" }, ` and ${keys.length - 8} more`));
    return line;
  }

  // To a job: out of its stack, with its own way back, where it is in one; onto the graph, where it is not.
  function walk(at) {
    const view = current;
    if (!view.jobs.has(at)) for (const job of ancestors(view.graph, [at])) view.jobs.add(job);
    const key = view.of.get(at);
    if (key === undefined || view.nodes.get(key).members.length > 1) {
      for (const job of ancestors(view.graph, [at])) view.pinned.add(job);
      draw();
    }
    return choose(view.of.get(at));
  }

  // ------------------------------------------------------------ keys

  function arrow(key) {
    const view = current;
    const here = view.nodes.get(view.chosen);
    const along = { ArrowUp: "to", ArrowDown: "from" };
    let candidates;
    if (along[key]) {
      candidates = view.edges.filter(([from, to]) => (along[key] === "from" ? to : from) === here.key).map(([from, to]) => view.nodes.get(along[key] === "from" ? from : to));
    } else {
      const forward = key === "ArrowRight";
      candidates = [...view.nodes.values()].filter((node) => Math.abs(node.y - here.y) < HEIGHT && (forward ? node.x > here.x : node.x < here.x));
    }
    const distance = (node) => Math.hypot(node.x - here.x, node.y - here.y);
    candidates.sort((a, b) => distance(a) - distance(b) || (a.key < b.key ? -1 : 1));
    if (candidates.length) choose(candidates[0].key);
  }

  place.addEventListener("keydown", (event) => {
    if (!current || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key.startsWith("Arrow")) { event.preventDefault(); arrow(event.key); }
    else if (event.key === "Home") { event.preventDefault(); choose(current.key0); }
    else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); told.focus(); }
  });
  place.addEventListener("click", (event) => {
    const button = event.target.closest(".node");
    if (button) choose(button.dataset.key);
  });

  // ------------------------------------------------------------ opening and closing

  async function open(hash) {
    const mine = ++asked;
    let found;
    try {
      found = await root(hash);
      if (!found || mine !== asked) return false;
    } catch (error) {
      if (mine !== asked) return false;
      current = null;
      title.textContent = "This trail cannot be shown";
      kicker.textContent = "";
      place.replaceChildren();
      told.replaceChildren(element("p", { class: "missing" }, error.message));
      if (!dialog.open) dialog.showModal();
      return false;
    }
    current = { ...found, pinned: new Set() };
    title.textContent = found.title;
    kicker.textContent = found.kicker;
    told.replaceChildren();
    if (!dialog.open) dialog.showModal();
    draw();
    current.key0 = found.first === "number" ? "number" : current.of.get(found.first) ?? (current.nodes.has(found.first) ? found.first : [...current.nodes.keys()][0]);
    await choose(current.key0);
    dialog.dataset.shown = hash;
    return true;
  }

  dialog.addEventListener("close", () => {
    current = null;
    asked += 1;
    delete dialog.dataset.shown;
    if (/^#[njc]\//.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
  });
  window.matchMedia("(max-width: 760px)").addEventListener("change", () => { if (current) { const key = current.chosen; draw(); choose(key, false); } });

  penumbra.trail = { open, dialog };
})();
