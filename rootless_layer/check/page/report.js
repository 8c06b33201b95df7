"use strict";
(async () => {
  const HIDDEN = 1, TWICE = 2, CAPABLE = 4;
  const MOST_ROWS = 300;
  const byId = (id) => document.getElementById(id);

  const packed = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = JSON.parse(await new Response(stream).text());

  // An element: its name, its properties, and what is in it. Text is never read as HTML.
  const make = (name, properties = {}, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key in element) element[key] = value; else element.setAttribute(key, value);
    }
    element.append(...inside);
    return element;
  };
  const sized = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0, number = bytes;
    while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
    return `${unit ? number.toFixed(number < 10 ? 1 : 0) : number} ${units[unit]}`;
  };
  const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
  const paths = new Map([[0, ""]]);
  const pathOf = (node) => {
    if (!paths.has(node)) paths.set(node, `${pathOf(data.parents[node])}/${data.names[node]}`);
    return paths.get(node);
  };
  const groups = new Map();
  // The store path that a path is in; of others the directory at the top, and one below.
  const placeOf = (node) => {
    if (!groups.has(node)) {
      const parts = pathOf(node).split("/");
      groups.set(node, parts[2] === "store" && parts.length > 3 ? parts[3] : parts.slice(1, 3).join("/"));
    }
    return groups.get(node);
  };
  // The package that has a file, else its place.
  const groupOf = (node, row) => (row >= 0 && image().rows.packages[image().rows.package[row]]) || placeOf(node);
  const modeText = (mode) => {
    const kind = { 0o4: "d", 0o10: "-", 0o12: "l", 0o2: "c", 0o6: "b", 0o1: "p" }[mode >> 12] ?? "?";
    const bits = [..."rwxrwxrwx"].map((letter, place) => (mode & (0o400 >> place) ? letter : "-"));
    for (const [bit, place, letter] of [[0o4000, 2, "s"], [0o2000, 5, "s"], [0o1000, 8, "t"]]) {
      if (mode & bit) bits[place] = bits[place] === "x" ? letter : letter.toUpperCase();
    }
    return kind + bits.join("");
  };

  const state = { image: data.images.length - 1, layer: null, colour: "group", zoom: null, chosen: null };
  const image = () => data.images[state.image];
  const isSeen = (rows, row) => (state.layer === null ? !(rows.flags[row] & HIDDEN) : rows.layer[row] === state.layer);

  // The tree of the files that are shown: each node has its size, its children by size, and its row if it is a file.
  const grow = () => {
    const { rows } = image();
    const nodes = new Map();
    const node = (number) => {
      let found = nodes.get(number);
      if (found === undefined) {
        found = { number, size: 0, row: -1, children: [], parent: null };
        nodes.set(number, found);
        if (number !== 0) { found.parent = node(data.parents[number]); found.parent.children.push(found); }
      }
      return found;
    };
    const root = node(0);
    for (let row = 0; row < rows.path.length; row += 1) {
      if (!isSeen(rows, row)) continue;
      const leaf = node(rows.path[row]);
      leaf.row = row;
      for (let one = leaf; rows.size[row] && one !== null; one = one.parent) one.size += rows.size[row];
    }
    for (const one of nodes.values()) one.children.sort((a, b) => b.size - a.size || a.number - b.number);
    return { root, nodes };
  };
  let tree = null;

  const colours = new Map();
  const hue = (text) => {
    if (!colours.has(text)) {
      let hash = 0;
      for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
      colours.set(text, hash % 360);
    }
    return colours.get(text);
  };
  const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const colourOf = (one) => {
    const { rows } = image();
    const lightness = isDark() ? 38 : 68;
    if (state.colour === "waste") {
      const wasted = one.row >= 0 && rows.flags[one.row] & (TWICE | HIDDEN);
      return wasted ? `hsl(8 75% ${lightness}%)` : `hsl(210 12% ${lightness + 8}%)`;
    }
    const text = state.colour === "owner" ? (one.row >= 0 ? rows.owners[rows.owner[one.row]] : "") : groupOf(one.number, one.row);
    return `hsl(${hue(text)} 45% ${lightness}%)`;
  };

  // Rows of rectangles, each as near to a square as can be (Bruls, Huizing and van Wijk, "Squarified Treemaps").
  const squarify = (children, x, y, width, height) => {
    const placed = [];
    let rest = children.reduce((sum, one) => sum + one.size, 0);
    for (let first = 0; first < children.length && rest > 0 && width > 0 && height > 0;) {
      const side = Math.min(width, height), scale = (width * height) / rest;
      let last = first, sum = 0, worst = Infinity;
      for (; last < children.length; last += 1) {
        const grown = sum + children[last].size;
        const depth = (grown * scale) / side;
        const ratio = (one) => Math.max((one.size * scale) / depth ** 2, depth ** 2 / (one.size * scale));
        const next = Math.max(ratio(children[first]), ratio(children[last]));
        if (next > worst || children[last].size === 0) break;
        worst = next;
        sum = grown;
      }
      if (last === first) break;
      const depth = (sum * scale) / side;
      let along = 0;
      for (const one of children.slice(first, last)) {
        const length = (one.size / sum) * side;
        placed.push(width >= height ? [one, x, y + along, depth, length] : [one, x + along, y, length, depth]);
        along += length;
      }
      if (width >= height) { x += depth; width -= depth; } else { y += depth; height -= depth; }
      rest -= sum;
      first = last;
    }
    return placed;
  };

  const canvas = byId("map");
  let drawn = [];
  const draw = () => {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "top";
    drawn = [];
    const ink = isDark() ? "#e6e8eb" : "#1c1e21", edge = isDark() ? "#14171b" : "#ffffff";
    const label = (text, x, y, room) => {
      if (room < 30) return;
      const letters = Math.floor(room / 6.6);
      pen.fillStyle = ink;
      pen.fillText(text.length > letters ? `${text.slice(0, letters - 1)}…` : text, x, y);
    };
    const place = (one, x, y, w, h, depth) => {
      if (w < 1.5 || h < 1.5) return;
      pen.fillStyle = colourOf(one);
      pen.fillRect(x, y, w, h);
      drawn.push([one, x, y, w, h, depth]);
      if (w > 3 && h > 3) { pen.strokeStyle = edge; pen.lineWidth = 1; pen.strokeRect(x + 0.5, y + 0.5, w - 1, h - 1); }
      const title = h > 22 && w > 40;
      if (title) label(data.names[one.number] || "/", x + 4, y + 4, w - 8);
      if (one.children.length && w > 8 && h > 8) {
        const top = title ? 19 : 2;
        for (const [child, ...box] of squarify(one.children, x + 2, y + top, w - 4, h - top - 2)) place(child, ...box, depth + 1);
      }
    };
    for (const [one, ...box] of squarify(state.zoom.children, 0, 0, width, height)) place(one, ...box, 0);
    const mark = drawn.find(([one]) => one === state.chosen);
    if (mark) {
      pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--mark");
      pen.lineWidth = 3;
      pen.strokeRect(mark[1] + 1.5, mark[2] + 1.5, mark[3] - 3, mark[4] - 3);
    }
  };

  const tell = (one) => {
    const { rows } = image(), lines = [make("strong", {}, pathOf(one.number) || "/"), make("div", {}, sized(one.size))];
    if (one.row >= 0) {
      const flags = rows.flags[one.row];
      const part = rows.packages[rows.package[one.row]];
      const notes = [[TWICE, "its data stands elsewhere, too"], [HIDDEN, "hidden by a later layer"], [CAPABLE, "has capabilities"]];
      lines.push(make("div", { className: "soft" }, `${modeText(rows.mode[one.row])} ${rows.owners[rows.owner[one.row]]}, layer ${rows.layer[one.row]}`));
      if (part) lines.push(make("div", { className: "soft" }, `package ${part}`));
      lines.push(...notes.filter(([bit]) => flags & bit).map(([, text]) => make("div", { className: "soft" }, text)));
    }
    byId("tip").replaceChildren(...lines);
  };
  const rowOf = (node, size, act) => make("tr", {}, make("td", { className: "number" }, sized(size)), make("td", { className: "path" }, make("button", { onclick: act }, node)));
  const zoomTo = (one) => {
    state.zoom = one.children.length ? one : one.parent ?? one;
    state.chosen = one === state.zoom ? one.children[0] ?? null : one;
    const trail = [];
    for (let each = state.zoom; each !== null; each = each.parent) trail.unshift(each);
    byId("crumbs").replaceChildren(...trail.map((each) => make("button", { onclick: () => zoomTo(each), "aria-current": String(each === state.zoom) }, data.names[each.number] || "/")));
    const listed = state.zoom.children.slice(0, MOST_ROWS);
    byId("children").tBodies[0].replaceChildren(...listed.map((each) => rowOf(data.names[each.number] + (each.children.length ? "/" : ""), each.size, () => zoomTo(each))));
    tell(one);
    draw();
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    return drawn.findLast(([, left, top, w, h]) => x >= left && x < left + w && y >= top && y < top + h)?.[0];
  };
  canvas.addEventListener("mousemove", (event) => { const one = at(event); if (one) tell(one); });
  canvas.addEventListener("click", (event) => {
    let one = at(event);
    if (!one) return;
    const file = one;
    while (one.parent !== state.zoom && one.parent !== null) one = one.parent;
    zoomTo(one.children.length ? one : file);
  });
  canvas.addEventListener("keydown", (event) => {
    const among = state.zoom.children, place = among.indexOf(state.chosen);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step !== undefined && among.length) {
      state.chosen = among[Math.min(among.length - 1, Math.max(0, place + step))];
      tell(state.chosen);
      draw();
    } else if (event.key === "Enter" && state.chosen) zoomTo(state.chosen);
    else if (event.key === "Backspace" || event.key === "Escape") {
      const left = state.zoom;
      if (left.parent !== null) { zoomTo(left.parent); state.chosen = left; tell(left); draw(); }
    } else return;
    event.preventDefault();
  });

  const search = () => {
    const wanted = byId("search").value.toLowerCase();
    const rows = image().rows, hits = [];
    if (wanted) {
      for (let row = 0; row < rows.path.length; row += 1) if (pathOf(rows.path[row]).toLowerCase().includes(wanted)) hits.push(row);
      hits.sort((a, b) => rows.size[b] - rows.size[a] || a - b);
    }
    byId("found").textContent = wanted ? counted(hits.length, "path") : "";
    const lines = hits.slice(0, MOST_ROWS).map((row) => make("tr", {},
      make("td", { className: "number" }, sized(rows.size[row])), make("td", { className: "number" }, `layer ${rows.layer[row]}`),
      make("td", { className: "path" }, make("button", { onclick: () => show(row) }, pathOf(rows.path[row])))));
    byId("hits").replaceChildren(...(wanted ? [make("table", {}, make("tbody", {}, ...lines))] : []));
  };
  const show = (row) => {
    const { rows } = image();
    if (!isSeen(rows, row)) choose(state.image, rows.layer[row]);
    zoomTo(tree.nodes.get(rows.path[row]));
    canvas.focus();
  };

  const table = (caption, head, lines) => make("details", { open: lines.length > 0 && lines.length <= 20 },
    make("summary", {}, `${caption}: ${lines.length.toLocaleString("en")}`),
    make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", {}, text)))),
      make("tbody", {}, ...lines.slice(0, MOST_ROWS).map((cells) => make("tr", {}, ...cells.map((cell) => make("td", typeof cell === "number" ? { className: "number" } : { className: "path" }, typeof cell === "number" ? sized(cell) : cell)))))));
  const tables = () => {
    const { rows, layers, copies, moreCopies } = image(), kinds = { id: [], capable: [], open: [], device: [] };
    const parts = new Map();
    for (let row = 0; row < rows.path.length; row += 1) {
      if (!isSeen(rows, row)) continue;
      const mode = rows.mode[row], kind = mode >> 12, part = groupOf(rows.path[row], row);
      if (rows.size[row]) parts.set(part, (parts.get(part) ?? 0) + rows.size[row]);
      const line = () => [pathOf(rows.path[row]), modeText(mode), rows.owners[rows.owner[row]]];
      if (kind === 0o10 && mode & 0o6000) kinds.id.push(line());
      if (rows.flags[row] & CAPABLE) kinds.capable.push(line());
      if (kind === 0o4 && mode & 0o2) kinds.open.push(line());
      if (kind === 0o2 || kind === 0o6) kinds.device.push(line());
    }
    const head = ["path", "mode", "owner"];
    const twice = copies.map(({ size, places }) => [size * (places.length - 1), size,
      places.map(([layer, node]) => `layer ${layer}: ${pathOf(node)}`).join("\n")]);
    const hiding = layers.map(({ hides }, number) => [`layer ${number}`, counted(hides.files, "file"), hides.bytes]).filter((line) => line[2] > 0);
    const largest = [...parts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([part, size]) => [size, part || "/"]);
    byId("more").replaceChildren(make("h2", {}, "What to look at"),
      table("Packages, store paths and other directories by size", ["bytes", "name"], largest),
      table(`Data that stands more than once${moreCopies ? `, the largest of ${copies.length + moreCopies}` : ""}`, ["wasted", "size", "places"], twice),
      table("Layers that hide or remove what lower layers have", ["layer", "files", "bytes"], hiding),
      table("Set-ID files", head, kinds.id), table("Files with capabilities", head, kinds.capable),
      table("Directories that everybody may write to", head, kinds.open), table("Devices", head, kinds.device),
      ...(data.changes ? [changed()] : []));
  };
  const changed = () => {
    const { count, bytes, largest } = data.changes, words = { "+": "new", "-": "gone", "~": "changed" };
    const said = Object.entries(count).map(([sign, number]) => `${number.toLocaleString("en")} ${words[sign]} (${sized(bytes[sign])})`).join(", ");
    return table(`Files that differ, ${said || "none"}; the largest`, ["", "bytes", "path"], largest.map(([sign, node, size]) => [words[sign], size, pathOf(node)]));
  };

  const head = () => {
    const { title, names, platform, manifest, config, created, layers, wasted } = image();
    const total = layers.reduce((sum, layer) => sum + layer.size, 0);
    const facts = [names.join(", "), platform, created, manifest, `config ${config}`, counted(layers.length, "layer"), `${sized(total)} to pull`,
      `${sized(wasted.within + wasted.across)} stand twice`].filter(Boolean);
    const inside = [make("h1", {}, title), make("ul", { className: "facts soft" }, ...facts.map((text) => make("li", {}, text)))];
    if (data.images.length > 1) {
      const had = new Set(data.images[0].layers.map(({ digest }) => digest));
      const fetched = data.images[1].layers.filter(({ digest }) => !had.has(digest));
      inside.unshift(make("div", { className: "images" }, ...data.images.map((each, number) => make("button", { onclick: () => choose(number, null), "aria-pressed": String(number === state.image) }, each.title))));
      inside.push(make("p", { id: "pull" }, `A machine that has ${data.images[0].title} pulls ${counted(fetched.length, "layer")} of ${data.images[1].layers.length} for ${data.images[1].title}: ${sized(fetched.reduce((sum, layer) => sum + layer.size, 0))}.`));
    }
    byId("head").replaceChildren(...inside);
  };
  const bars = () => {
    const { layers } = image(), largest = Math.max(1, ...layers.map(({ size }) => size));
    const had = new Set(state.image ? data.images[0].layers.map(({ digest }) => digest) : []);
    const bar = (number, text, part, kind, title) => make("button", { className: "layer", title, onclick: () => choose(state.image, number), "aria-pressed": String(state.layer === number) },
      make("span", {}, make("span", { className: `bar ${kind}`, style: `width: ${100 * part}%` })), make("span", {}, ...text));
    const all = bar(null, [`the whole image, as it is seen`], 1, "all", "");
    byId("layers").replaceChildren(all, ...layers.map((layer, number) => bar(number,
      [`${number}: ${sized(layer.size)}, ${sized(layer.uncompressedSize)} unpacked, ${counted(layer.entries, "path")}${had.has(layer.digest) ? ", there already" : ""}`,
        make("span", { className: "made" }, layer.createdBy || "not recorded")],
      layer.size / largest, had.has(layer.digest) ? "had" : "", `${layer.digest}\n${layer.createdBy}`)));
  };
  const choose = (number, layer) => {
    state.image = number;
    state.layer = layer;
    tree = grow();
    head();
    bars();
    tables();
    search();
    zoomTo(tree.root);
  };

  byId("colour").addEventListener("change", (event) => { state.colour = event.target.value; draw(); });
  byId("search").addEventListener("input", search);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(canvas);
  choose(state.image, null);
  document.documentElement.dataset.ready = "yes";
})();
