// The map of the live page: the pages of one sequence, a row for each layer and KV head, a column for each page. It draws what page.js has read last.
"use strict";

const placeNames = ["gone", "on the device", "in host memory"];
const placeClasses = ["gone", "device", "host"];
const gap = 3; // Pixels between layers.
let cursor = { row: 0, page: 0 };
let describedOf = null; // The sequence whose page is described below the map.
let formatNames = []; // Formats keep the colours that they first had.

const colourMode = () => document.querySelector("input[name=colour]:checked").value;

// The variables of the style sheet, so that the map follows the scheme.
function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

function formatClass(name) {
  let index = formatNames.indexOf(name);
  if (index < 0) {
    index = formatNames.push(name) - 1;
  }

  return `f${index % 8}`;
}

function mixed(from, to, part) {
  const channel = (text, i) => parseInt(text.slice(1 + (2 * i), 3 + (2 * i)), 16);
  return `rgb(${[0, 1, 2].map((i) => Math.round(channel(from, i) + (part * (channel(to, i) - channel(from, i))))).join(" ")})`;
}

// Shares of attention differ by orders of magnitude: the ramp goes by their logarithms, from 0.01 % to all.
const ramp = (mass) => (mass <= 0 ? 0 : Math.max(0, Math.min(1, 1 + (Math.log10(mass) / 4))));

function cellColour(map, r, p, colour) {
  if (map.places[r][p] === 0) {
    return colour("gone");
  }

  switch (colourMode()) {
    case "tier": return colour(placeClasses[map.places[r][p]]);
    case "mass": return mixed(colour("gone"), colour("accent"), map.mass === null ? 0 : ramp(map.mass[r][p]));
    default: return colour(formatClass(map.names[map.formats[r][p]]));
  }
}

function drawMap() {
  const map = shown?.map ?? null;
  if (map === null) {
    return;
  }

  const canvas = byId("map");
  const pages = map.places[0].length;
  const width = Math.max(2, Math.min(22, Math.floor((canvas.parentElement.clientWidth - 8) / Math.max(1, pages))));
  const height = map.places.length > 128 ? 4 : 12;
  [canvas.width, canvas.height] = [Math.max(1, pages * width), (map.places.length * height) + ((map.layers - 1) * gap)];
  [canvas.dataset.cellWidth, canvas.dataset.cellHeight, canvas.dataset.gap] = [width, height, gap];
  const context = canvas.getContext("2d", { alpha: false });
  const colour = colours();
  context.fillStyle = colour("panel");
  context.fillRect(0, 0, canvas.width, canvas.height);
  const inset = width > 4 ? 1 : 0;
  map.places.forEach((row, r) => {
    const top = topOf(map, r, height);
    row.forEach((_, p) => {
      context.fillStyle = cellColour(map, r, p, colour);
      context.fillRect(p * width, top, width - inset, height - 1);
    });
  });
  if (document.activeElement === canvas) {
    context.strokeStyle = colour("text");
    context.strokeRect((cursor.page * width) + .5, topOf(map, cursor.row, height) + .5, width - 1, height - 1);
  }

  describeMap(map);
  drawLegend(map);
  drawCells(map);
  if (document.activeElement === canvas && describedOf !== nameOf(map)) {
    describeCell(); // The map was focused before this sequence was there.
  }
}

const nameOf = (map) => `${map.id}.${map.choice}`;
const topOf = (map, r, height) => (r * height) + (Math.floor(r / map.heads) * gap);

function describeMap(map) {
  const places = [0, 0, 0];
  map.places.forEach((row) => row.forEach((place) => { places[place]++; }));
  const from = map.first_page > 0 ? ` (from page ${number(map.first_page)} on)` : "";
  const text = `Request ${nameOf(map)}: ${number(map.length)} tokens, ${map.layers} layers × ${map.heads} KV heads × ${map.places[0].length} pages of ${map.page_tokens} tokens${from}; `
    + `${number(places[1])} pages on the device, ${number(places[2])} in host memory, ${number(places[0])} gone`;
  byId("map-text").textContent = text;
  [byId("map-text").dataset.answer, byId("map-text").dataset.length] = [nameOf(map), map.length];
  byId("map").setAttribute("aria-label", `Map of pages. ${text}. A table of it follows.`);
}

function drawLegend(map) {
  const entry = (name, text) => {
    const item = element("li", text, { "data-name": text });
    item.prepend(element("span", "", { class: `swatch ${name}`, "aria-hidden": "true" }));
    return item;
  };
  const mode = colourMode();
  const entries = mode === "tier" ? [entry("device", "on the device"), entry("host", "in host memory")]
    : mode === "mass" ? [entry("ramp", "share of attention of the last token, 0.01 % to 100 %")]
    : map.names.map((name) => entry(formatClass(name), name)).sort((a, b) => a.textContent.localeCompare(b.textContent));
  byId("legend").replaceChildren(...entries, entry("gone", "gone"));
}

// Only while it is open: it may have thousands of cells.
function drawCells(map) {
  if (!byId("map-table").open) {
    return;
  }

  const head = [element("th", "Layer", { scope: "col" }), element("th", "KV head", { scope: "col" })];
  map.places[0].forEach((_, p) => head.push(element("th", String((p + map.first_page) * map.page_tokens), { scope: "col" })));
  byId("cells-head").replaceChildren(row(head));
  byId("cells").replaceChildren(...map.places.map((places, r) => row([
    element("th", String(Math.floor(r / map.heads)), { scope: "row" }), element("th", String(r % map.heads), { scope: "row" }), ...places.map((place, p) => cellText(map, r, p)),
  ])));
}

function cellText(map, r, p) {
  const place = map.places[r][p];
  const mass = map.mass === null || map.mass === undefined || map.mass[r][p] < 0 ? "" : ` ${number(map.mass[r][p] * 100, 2)} %`;
  return place === 0 ? "gone" : `${map.names[map.formats[r][p]]}${place === 2 ? " host" : ""}${mass}`;
}

function describeCell() {
  const map = shown?.map ?? null;
  if (map === null) {
    return;
  }

  describedOf = nameOf(map);
  cursor.row = Math.max(0, Math.min(cursor.row, map.places.length - 1));
  cursor.page = Math.max(0, Math.min(cursor.page, map.places[0].length - 1));
  const first = (cursor.page + map.first_page) * map.page_tokens;
  const last = Math.min(first + map.page_tokens, map.length) - 1;
  const place = map.places[cursor.row][cursor.page];
  byId("cell").textContent = `Layer ${Math.floor(cursor.row / map.heads)}, KV head ${cursor.row % map.heads}, tokens ${first} to ${last}: ${cellText(map, cursor.row, cursor.page)}`
    + (place === 0 ? "" : `, ${placeNames[place]}`);
  drawMap();
}

byId("map-table").addEventListener("toggle", drawMap);
byId("map").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (step !== undefined) {
    event.preventDefault();
    if ((shown?.map ?? null) !== null) {
      cursor = { row: cursor.row + step[0], page: cursor.page + step[1] };
      describeCell();
    }
  }
});
byId("map").addEventListener("focus", describeCell);
byId("map").addEventListener("mousemove", (event) => {
  const map = shown?.map ?? null;
  if (map !== null) {
    const [width, height] = [Number(byId("map").dataset.cellWidth), Number(byId("map").dataset.cellHeight)];
    const layer = Math.floor(event.offsetY / ((map.heads * height) + gap));
    const head = Math.min(map.heads - 1, Math.floor((event.offsetY - (layer * ((map.heads * height) + gap))) / height));
    cursor = { row: (layer * map.heads) + head, page: Math.floor(event.offsetX / width) };
    describeCell();
  }
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
window.addEventListener("resize", drawMap);
