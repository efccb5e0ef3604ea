// What the panel beside the graph tells: of a number, of a job, of several jobs of a kind, of a source.
(() => {
  "use strict";
  const { element, load } = penumbra;
  const ROWS = 200;
  const WORDS = {
    table: "table", figure: "figure", study_report: "report", collect: "collected metrics", test: "tests", claim: "claims",
    evaluate: "evaluation", infer: "inference", train: "training", split: "split", fuse: "label fusion",
    resample_labels: "resampled labels", preprocess: "preparation", ingest: "ingestion", download: "raw data",
    number: "number", source: "source", file: "file of the checkout",
  };

  function size(bytes) {
    if (bytes === null || bytes === undefined) return "";
    const units = ["B", "kB", "MB", "GB", "TB"];
    let value = bytes, at = 0;
    while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
    return `${at === 0 ? value : value.toFixed(1)} ${units[at]}`;
  }

  function duration(seconds) {
    if (seconds < 120) return `${seconds} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  function hash(text) {
    if (!text) return element("span", { class: "quiet" }, "no hash");
    return element("span", { class: "hash" },
      element("code", { title: text }, text.slice(0, 12)),
      element("button", { type: "button", class: "copy", "data-copy": text, "aria-label": `Copy ${text.slice(0, 12)}` }, "copy"));
  }

  function pairs(entries) {
    const list = element("dl", { class: "pairs" });
    for (const [key, value] of entries) {
      if (value === "" || value === null || value === undefined) continue;
      list.append(element("div", {}, element("dt", {}, key), element("dd", {}, value)));
    }
    return list;
  }

  // A path may go into the next line behind a slash.
  function breaking(path) {
    return path.split(/(?<=\/)/).flatMap((piece, k) => (k ? [document.createElement("wbr"), piece] : [piece]));
  }

  function copyable(text) {
    return element("span", { class: "copyable" }, element("code", {}, text),
      element("button", { type: "button", class: "copy", "data-copy": text, "aria-label": "Copy" }, "copy"));
  }

  function folded(title, fill, open = false) {
    const made = element("details", { class: "fold" }, element("summary", {}, title));
    const fillOnce = () => { if (made.open && made.childElementCount === 1) made.append(...[fill()].flat()); };
    made.addEventListener("toggle", fillOnce);
    if (open) { made.open = true; fillOnce(); }
    return made;
  }

  // A long list, some rows at a time.
  function listed(rows, one) {
    const list = element("ul", { class: "files-of" });
    const box = element("div", {}, list);
    let next = 0;
    const more = element("button", { type: "button", class: "more", onclick: () => grow() });
    function grow() {
      for (const row of rows.slice(next, next + ROWS)) list.append(one(row));
      next = Math.min(next + ROWS, rows.length);
      more.textContent = `Show more (${rows.length - next} left)`;
      if (next < rows.length) box.append(more);
      else more.remove();
    }
    grow();
    return box;
  }

  // Configuration as nested lists, as short as it can be.
  function tree(value) {
    if (value === null || typeof value !== "object") return element("code", {}, String(value));
    const entries = Object.entries(value);
    if (entries.length === 0) return element("span", { class: "quiet" }, Array.isArray(value) ? "none" : "nothing");
    if (Array.isArray(value) && value.every((item) => item === null || typeof item !== "object")) return element("code", {}, value.join(", "));
    const list = element("ul", { class: "tree" });
    for (const [key, item] of entries) {
      const nested = item !== null && typeof item === "object" && Object.keys(item).length > 0 && !(Array.isArray(item) && item.every((i) => i === null || typeof i !== "object"));
      const name = element("span", { class: "key" }, key);
      list.append(element("li", {}, nested && Object.keys(item).length > 16 ? folded(key, () => tree(item)) : [name, " ", tree(item)]));
    }
    return list;
  }

  function fileLine(path, sha256, bytes, kind, go) {
    const name = go ? element("button", { type: "button", class: "path go", onclick: go, title: "Show the job that made it" }, breaking(path)) : element("span", { class: "path" }, breaking(path));
    return element("li", {}, name, element("span", { class: "quiet" }, [kind === "folder" ? "folder " : "", size(bytes)].join("")), hash(sha256));
  }

  function ofFile([path, sha256, bytes]) {
    return [element("p", {}, "No job made this file: the number's own job read it as it is."), element("ul", { class: "files-of" }, fileLine(path, sha256, bytes, "file"))];
  }

  // ------------------------------------------------------------ a number

  async function ofNumber(number, graph, walk) {
    const told = number.told;
    const box = [];
    box.push(element("p", { class: "big" }, number.shown));
    const scaled = told.scale && Number(told.scale) !== 1 ? ` × ${Number(told.scale)}` : "";
    box.push(pairs([
      ["value", told.value ? [copyable(told.value), element("span", { class: "quiet" }, scaled)] : ""],
      ["standard deviation", told.std ? copyable(told.std) : ""],
      ["x, y", told.x || told.y ? `${told.x || "–"}, ${told.y || "–"}` : ""],
      ["unit", told.unit],
      ["how it follows", told.estimator],
      ["n", told.n && [told.n, told.n_expected && told.n_expected !== told.n ? ` of ${told.n_expected}` : ""].join("")],
      ["cases", told.n_cases],
      ["undefined", told.n_undefined && told.n_undefined !== "0" ? told.n_undefined : ""],
      ["p", told.p], ["p after Holm's correction", told.p_holm],
      ["status", told.status && told.status !== "ok" ? told.status : ""],
      ["data set", told.dataset], ["candidate", told.candidate], ["target", told.target], ["metric", told.metric],
    ]));
    box.push(element("h3", {}, "Its rows"));
    box.push(told.source ? pairs([
      ["from", breaking(told.source)], ["rows", told.n_rows], ["which", told.filter ? copyable(told.filter) : ""],
      ["hash of the rows", told.rows_sha256 ? hash(told.rows_sha256) : ""],
    ]) : element("p", { class: "quiet" }, "It is made of no rows."));
    if (number.runs.length) {
      box.push(folded(`${number.runs.length} run${number.runs.length === 1 ? "" : "s"} that the rows come from`, () => listed(number.runs, ([dataset, candidate, split]) => {
        const job = graph.names.indexOf(`evaluate/${dataset}/${candidate}/split-${split}`);
        const text = `${dataset} · ${candidate} · split ${split}`;
        return element("li", {}, job < 0 ? text : element("button", { type: "button", class: "path go", onclick: () => walk(job) }, text));
      }), number.runs.length <= 6));
    }
    box.push(folded(`${number.files.length} file${number.files.length === 1 ? "" : "s"} that it rests on directly`, () => listed(number.files, ([path, sha256, bytes, job]) => fileLine(path, sha256, bytes, "file", job === null ? null : () => walk(job)))));
    box.push(folded("Ask the command line", () => {
      return [element("p", {}, "The same trail in a terminal, and the proof that nothing on it was changed:"),
        element("p", {}, copyable(`penumbra audit trace ${number.study}/${number.exhibit} ${number.id}`)),
        element("p", {}, copyable("penumbra audit verify"))];
    }));
    return box;
  }

  // ------------------------------------------------------------ a job

  async function ofJob(at, graph, walk, only = "") {
    const name = graph.names[at];
    if (graph.part[at] === null) return [element("p", { class: "missing" }, "There is no record of this job."), pairs([["job", copyable(name)]])];
    const part = await load(`jobs/${graph.part[at]}`);
    const job = part.jobs[name];
    const shared = (key) => (job[key] === undefined ? null : part.shared[job[key]]);
    const checkout = shared("checkout") || {}, software = shared("software") || {}, machine = shared("machine") || {};
    const box = [];
    const source = graph.rules[at] === "download" ? graph.sources[graph.wildcards[at].dataset] : null;
    if (source) box.push(ofSource(source));
    box.push(element("h3", {}, "What it made"));
    const made = element("ul", { class: "files-of" });
    for (const [, path, kind, sha256, bytes] of job.outputs) made.append(fileLine(path, sha256, bytes, kind));
    box.push(made);
    for (const [, path, kind, , , files] of job.outputs) {
      if (kind !== "folder") continue;
      const some = only ? files.filter(([file]) => file.startsWith(only)) : files;
      if (only && !some.length) continue;
      box.push(folded(only ? `${some.length} files of ${only.replace(/\/$/, "")}` : `${files.length} files in ${path}`, () => listed(some, ([file, hashed, count]) => fileLine(file, hashed, count, "file")), Boolean(only)));
    }
    box.push(element("h3", {}, "What it read"));
    const reads = job.inputs;
    box.push(reads.length ? (reads.length > 12 ? folded(`${reads.length} files and folders`, () => read(reads)) : read(reads)) : element("p", { class: "quiet" }, source && source.kind === "generated" ? "Nothing: it was generated." : "Nothing that a job made."));
    function read(some) {
      return listed(some, ([, path, kind, sha256, bytes, , maker]) => fileLine(path, sha256, bytes, kind, maker === null ? null : () => walk(maker)));
    }
    box.push(folded("Configuration", () => {
      const params = shared("params");
      return [element("p", {}, element("button", { type: "button", class: "copy", "data-copy": JSON.stringify(params, null, 2) }, "copy as JSON")), tree(params)];
    }));
    box.push(folded("Environment", () => [pairs([
      ["Python", software.python], ["CUDA", software.cuda], ["driver", software.driver],
      ["lock file", software.lock_sha256 ? hash(software.lock_sha256) : ""], ["installed", software.installed_sha256 ? hash(software.installed_sha256) : ""],
      ["threads", job.threads], ["device", job.device ?? job.config_device], ["seed", job.seed],
    ]), folded("Packages", () => tree(software.packages || {})), folded("Determinism", () => tree(shared("determinism") || {}))]));
    box.push(folded("Machine", () => [pairs([
      ["host", machine.host], ["system", machine.system], ["processor", machine.cpu && `${machine.cpu}, ${machine.cores} cores`],
    ]), folded("GPU and SLURM", () => tree({ gpu: machine.gpus ?? machine.gpu ?? [], slurm: machine.slurm ?? "none" })), folded("Resources asked for", () => tree(job.resources || {}))]));
    box.push(element("h3", {}, "Code, time, record"));
    box.push(pairs([
      ["commit", checkout.commit ? [hash(checkout.commit), checkout.dirty ? element("span", { class: "dirty" }, " with uncommitted changes") : null].filter(Boolean) : element("span", { class: "dirty" }, "unknown")],
      ["changes", checkout.diff_sha256 ? hash(checkout.diff_sha256) : ""],
      ["code digest", checkout.code ? copyable(checkout.code) : ""],
      ["started", job.started], ["took", job.seconds === undefined ? "" : duration(job.seconds)],
      ["memory", size(job.peak_memory_bytes)], ["GPU memory", size(job.peak_gpu_memory_bytes)],
      ["record", hash(job.sha256)], ["replaces", job.supersedes ? hash(job.supersedes) : ""],
      ["job", copyable(name)],
    ]));
    return box;
  }

  function ofSource(source) {
    const web = /^https?:\/\//.test(source.url || "");
    return element("div", { class: "source" }, pairs([
      ["data set", source.title ?? source.dataset], ["source", source.words],
      ["URL", web ? element("a", { href: source.url, rel: "noreferrer noopener", target: "_blank" }, source.url) : source.url],
      ["archive", source.archive_sha256 ? hash(source.archive_sha256) : ""],
      ["licence", source.licence], ["access", source.access], ["citation", source.citation],
    ]));
  }

  function ofStack(members, graph, walk) {
    const field = element("input", { type: "text", class: "filter", placeholder: "Narrow down", "aria-label": "Narrow the list down", autocomplete: "off" });
    const box = element("div");
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const some = members.filter((at) => words.every((word) => graph.names[at].toLowerCase().includes(word)));
      box.replaceChildren(listed(some, (at) => element("li", {}, element("button", { type: "button", class: "path go", onclick: () => walk(at) }, graph.names[at].split("/").slice(1).join(" · ")))));
    };
    field.addEventListener("input", show);
    show();
    return [element("p", {}, `${members.length} jobs of this kind. Choose one to see it, and its own way back, in the graph.`), members.length > 12 ? field : null, box].filter(Boolean);
  }

  penumbra.told = { ofNumber, ofJob, ofSource, ofStack, ofFile, WORDS };
})();
