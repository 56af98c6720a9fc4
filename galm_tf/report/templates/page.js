"use strict";
(function () {
  const NARROW = 560, LEGEND_LINE = 19;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const PAPER = 680;  // pixels across a sheet of paper within its margins
  const root = document.documentElement;
  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  // Roles become the colours of the mode that is on.
  function painted(trace, narrow, names) {
    const result = Object.assign({}, trace), role = trace.role;
    delete result.role;
    if (role === "diverging") {
      const half = trace.hundredths;
      result.z = half.map((_, i) => half.map((_, j) => (j <= i ? half[i][j] : half[j][i]) / 100));
      result.text = names.map((a) => names.map((b) => a + "<br>" + b));
      delete result.hundredths;
      result.colorscale = [[0, color("second")], [0.5, color("card")], [1, color("accent")]];
      const place = narrow ? { orientation: "h", y: -0.03, yanchor: "top", thickness: 8, len: 0.9 } : {};
      result.colorbar = Object.assign({ tickfont: { color: color("soft") }, outlinewidth: 0 }, trace.colorbar, place);
    } else if (role) {
      result.line = Object.assign({ color: color(role), width: 2 }, trace.line);
      result.marker = Object.assign({ color: color(role), size: 7 }, trace.marker);
      if (trace.mode === "markers+text") { result.textfont = { size: narrow ? 9 : 11 }; result.cliponaxis = false; }
      if (trace.type === "bar") { result.marker = Object.assign({ color: color(role) }, trace.marker); delete result.line; }
    }
    return result;
  }

  function layoutOf(figure, width) {
    const layout = Object.assign({}, figure.layout), line = color("line"), narrow = width < NARROW;
    const axis = (own) => Object.assign({ gridcolor: line, linecolor: line, zerolinecolor: color("muted"), zeroline: false, automargin: true }, own);
    layout.xaxis = axis(layout.xaxis);
    layout.yaxis = axis(Object.assign({ exponentformat: "none" }, layout.yaxis));  // 0.0002, not 200µ
    if (layout.title) { layout.title = { text: layout.title.text, font: { size: narrow ? 13 : 15 }, x: 0, xref: "paper", xanchor: "left" }; }
    Object.assign(layout, {
      paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: color("ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 48, r: 12, t: layout.title ? 40 : 12, b: 44 }, hoverlabel: { bgcolor: color("card"), bordercolor: color("muted"), font: { color: color("ink") } },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 11 } }, dragmode: coarse ? false : "zoom", width: width, autosize: false,
      uirevision: "kept",  // drawn anew, it is still zoomed as it was
    });
    if (layout.names) { square(layout, width); }
    if (layout.yaxis.bars) { bars(layout, narrow, figure.data.filter((trace) => trace.showlegend !== false).length); }
    delete layout.placed;
    return layout;
  }

  // A heat map is as high as it is wide, and named where a name has room.
  function square(layout, width) {
    const side = Math.min(width, 1000), size = side / layout.names.length, named = size > 9.5 && width >= NARROW;
    layout.height = width < NARROW ? side + 44 : side;
    layout.width = side;
    layout.margin = named ? { l: 10, r: 10, t: 10, b: 10 } : { l: 8, r: 8, t: 8, b: width < NARROW ? 52 : 8 };
    for (const axis of [layout.xaxis, layout.yaxis]) {
      axis.tickvals = layout.names.map((_, i) => i);
      axis.ticktext = layout.ticks;
      axis.showticklabels = named;
      axis.ticks = "";
      axis.tickfont = { size: Math.max(7, Math.min(12, size * 0.72)) };
      axis.showline = false;
    }
    delete layout.names;
    delete layout.ticks;
  }

  function bars(layout, narrow, entries) {
    layout.yaxis.tickfont = { size: narrow ? 9 : 11 };
    layout.yaxis.showgrid = false;
    layout.xaxis.zeroline = true;
    layout.legend = { orientation: "h", y: 1, yanchor: "bottom", x: 0 };
    if (narrow && layout.showlegend) { layout.height += entries * LEGEND_LINE; }  // one below the other
    delete layout.yaxis.bars;
  }

  // Names of points stand where they cover least: of one another, of points, and of what lies outside the plot.
  function placeNames(element) {
    const { xaxis, yaxis } = element._fullLayout, size = element._fullData[0].textfont.size, high = 1.3 * size, pen = document.createElement("canvas").getContext("2d");
    pen.font = size + "px " + element._fullLayout.font.family;
    const points = element._fullData.map((trace) => trace.x.map((x, i) => [xaxis.l2p(x), yaxis.l2p(trace.y[i])]));
    const taken = points.flat().map(([x, y]) => [x - 5, y - 5, x + 5, y + 5]);
    const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
    const outside = (box) => Math.max(0, -box[0]) + Math.max(0, box[2] - xaxis._length - 8) + Math.max(0, -box[1]) + Math.max(0, box[3] - yaxis._length);
    const places = ["middle right", "middle left", "top center", "bottom center", "top right", "top left", "bottom right", "bottom left"];
    function boxOf(place, x, y, width) {
      const [vertical, across] = place.split(" "), left = { right: x + 6, left: x - 6 - width, center: x - width / 2 }[across];
      const top = { middle: y - high / 2, top: y - 5 - high, bottom: y + 5 }[vertical];
      return [left, top, left + width, top + high];
    }
    const chosen = points.map((group, t) => group.map(([x, y], i) => {
      const width = pen.measureText(new DOMParser().parseFromString(element._fullData[t].text[i], "text/html").body.textContent).width;
      const cost = (box) => 20 * outside(box) + taken.reduce((sum, other) => sum + overlap(box, other), 0);
      const costs = places.map((place) => cost(boxOf(place, x, y, width)));
      const best = places[costs.indexOf(Math.min(...costs))];
      taken.push(boxOf(best, x, y, width));
      return best;
    }));
    Plotly.restyle(element, { textposition: chosen });
  }

  const widthOf = (element) => Math.floor(element.getBoundingClientRect().width);

  function draw(id, width = widthOf(document.getElementById(id))) {
    const element = document.getElementById(id);
    element.dataset.width = width;
    if (!width) { return; }
    const config = { displayModeBar: false, displaylogo: false, scrollZoom: false, doubleClick: "reset" };
    Plotly.react(element, figures[id].data.map((trace) => painted(trace, width < NARROW, figures[id].layout.names)), layoutOf(figures[id], width), config);
    if (figures[id].layout.placed) { placeNames(element); }
  }

  // Those that were drawn before; a figure is drawn when it comes near the screen, so that a phone shows the page at once.
  function drawAgain(outdated = () => true) {
    for (const id of Object.keys(figures)) {
      const element = document.getElementById(id);
      if (element.dataset.width && outdated(element)) { draw(id); }
    }
  }
  const otherWidth = (element) => widthOf(element) !== Number(element.dataset.width);

  // The plotting library lies packed in the page.
  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    packed.remove();
  }

  function watch() {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) { if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target.id); } }
    }, { rootMargin: "400px" });
    let timer = 0;  // a fold that opens gives its figure a width, too
    const resized = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => { if (!root.classList.contains("paper")) { drawAgain(otherWidth); } }, 120);
    });
    for (const id of Object.keys(figures)) {
      seen.observe(document.getElementById(id));
      resized.observe(document.getElementById(id));
    }
    dark.addEventListener("change", () => drawAgain());
    window.addEventListener("beforeprint", () => { for (const id of Object.keys(figures)) { draw(id, PAPER); } });
    window.addEventListener("afterprint", () => drawAgain());
  }

  // Paper is light and has no folds.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    root.classList.add("paper");
    opened = opened.concat(Array.from(document.querySelectorAll("details:not([open])")));
    opened.forEach((fold) => { fold.open = true; });
  });
  window.addEventListener("afterprint", () => {
    root.classList.remove("paper");
    opened.forEach((fold) => { fold.open = false; });
    opened = [];
  });

  const packed = document.getElementById("plotly");
  if (packed) {
    for (const id of Object.keys(figures)) { document.getElementById(id).style.minHeight = (figures[id].layout.height || 320) + "px"; }
    unpack(packed).then(watch, () => {
      for (const id of Object.keys(figures)) {
        document.getElementById(id).textContent = "This browser cannot unpack the plots (it has no DecompressionStream); a newer one can.";
      }
    });
  }

  // A table that is wider than its place says so.
  const wide = new ResizeObserver((entries) => {
    for (const { target } of entries) { target.classList.toggle("scrolls", target.scrollWidth > target.clientWidth + 1); }
  });
  document.querySelectorAll(".scroll").forEach((place) => { wide.observe(place); });

  // The table: sort by a click on a heading, what is not known last; search; open a row.
  const table = document.getElementById("attribute-table");
  if (!table) { return; }
  const body = table.tBodies[0], rows = Array.from(body.rows), headings = Array.from(table.tHead.rows[0].cells);
  const FEW = 25, more = document.getElementById("show-all");
  let folded = rows.length > FEW + 5;
  const box = document.getElementById("search-box"), count = document.getElementById("row-count");

  function value(row, column, number) {
    const cell = row.cells[column];
    if (!number) { return ["", "–"].includes(cell.textContent.trim()) ? null : cell.textContent.trim().toLowerCase(); }
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  }

  function compare(a, b) {
    if (a === null || b === null) { return 0; }
    return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  }

  function sortBy(column) {
    const heading = headings[column], number = heading.dataset.kind === "number", before = heading.getAttribute("aria-sort");
    const falling = before ? before === "ascending" : number;
    headings.forEach((h) => h.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const keyed = rows.map((row) => [value(row, column, number), row]);
    keyed.sort(([a], [b]) => (a === null) - (b === null) || (falling ? -1 : 1) * compare(a, b));
    for (const [, row] of keyed) {
      body.append(row);
      if (row.detail) { body.append(row.detail); }
    }
    filter();
  }

  // Letters alike but for case, marks and ligatures are the same: capitals, since ß has two of them and ς that of σ.
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toUpperCase();

  function filter() {
    const words = plain(box.value).split(/\s+/).filter(Boolean);
    let hits = 0;
    for (const row of Array.from(body.rows).filter((r) => !r.classList.contains("detail"))) {
      const hit = words.every((w) => row.sought.includes(w));
      hits += hit;
      row.hidden = !hit || (folded && hits > FEW);
      if (row.detail) { row.detail.hidden = row.hidden; }
    }
    count.textContent = (words.length ? hits + " of " : "") + rows.length + (rows.length === 1 ? " attribute" : " attributes");
    more.hidden = !folded || hits <= FEW;
    more.textContent = "Show all " + hits;
  }

  function detailOf(row) {
    const line = document.createElement("tr"), cell = line.insertCell(), holder = document.createElement("div"), list = document.createElement("ul");
    line.className = "detail";
    cell.colSpan = headings.length;
    holder.className = "detail-box";
    for (const [name, text] of Object.entries(JSON.parse(row.dataset.more))) {
      if (!text) { continue; }
      const item = document.createElement("li"), label = document.createElement("span");
      const value = document.createElement("bdi");
      label.textContent = name + " ";
      value.textContent = text;
      item.append(label, value);
      list.append(item);
    }
    const drawing = row.dataset.network && document.querySelector("#net-" + row.dataset.network + " svg");
    holder.append(...(drawing ? [drawing.cloneNode(true)] : []), list);
    cell.append(holder);
    return line;
  }

  function toggle(row, button) {
    if (row.detail) {
      row.detail.remove();
      row.detail = null;
    } else {
      row.detail = detailOf(row);
      row.after(row.detail);
    }
    button.setAttribute("aria-expanded", String(Boolean(row.detail)));
  }

  headings.forEach((heading, column) => heading.addEventListener("click", () => sortBy(column)));
  box.addEventListener("input", filter);
  more.addEventListener("click", () => {
    folded = false;
    filter();
    const next = Array.from(body.rows).filter((row) => !row.hidden && !row.classList.contains("detail"))[FEW];
    next.tabIndex = -1;
    (next.querySelector("button") || next).focus();
  });
  let unfolded = false;  // for paper
  window.addEventListener("beforeprint", () => {
    unfolded = unfolded || folded;
    folded = false;
    filter();
  });
  window.addEventListener("afterprint", () => {
    folded = unfolded;
    unfolded = false;
    filter();
  });
  rows.forEach((row) => {
    const button = row.querySelector("button.open");
    row.sought = Array.from(row.querySelectorAll("button.open, bdi, .code"), (e) => plain(e.textContent)).join(" ");
    if (button) { row.addEventListener("click", () => toggle(row, button)); }
  });
  sortBy(Math.min(1, headings.length - 1));
})();
