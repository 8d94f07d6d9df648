// The live page: it reads pictures of the cache as server-sent events, two a second, and draws them.
// Events come by fetch and not by EventSource, which could not send a key.
"use strict";

const byId = (id) => document.getElementById(id);
const placeNames = ["gone", "on the device", "in host memory"];
const placeClasses = ["gone", "device", "host"];
const keyName = "kvcache-key";
const gap = 3; // Pixels between layers.
const spokenEvery = 15000; // Milliseconds between two summaries for screen readers.
const settles = 2000; // Milliseconds until pictures show where the slider was moved to.

let key = sessionStorage.getItem(keyName) ?? "";
let connection = null;
let chosen = null; // { id, choice }: what the map shows; null follows the first sequence.
let shown = null; // The picture that is drawn.
let cursor = { row: 0, page: 0 };
let paused = false;
let touched = 0; // When the slider was moved last: pictures of before leave it alone.
let sending = false; // A new budget is on its way.
let formatNames = []; // Formats keep the colours that they first had.
let lastSpoken = 0;

const colourMode = () => document.querySelector("input[name=colour]:checked").value;
const number = (value, digits = 0) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const milliseconds = (times, which) => (times.count === 0 ? "–" : times[which] >= 1000 ? `${number(times[which] / 1000, 2)} s` : `${number(times[which], 1)} ms`);

function bytes(value) {
  if (value === null) {
    return "–";
  }

  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) {
    value /= 1024;
  }

  return `${number(value, unit === 0 ? 0 : 1)} ${units[unit]}`;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) {
    made.setAttribute(attribute, value);
  }

  return made;
}

function row(cells, attributes = {}) {
  const made = element("tr", "", attributes);
  made.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", String(cell)))));
  return made;
}

const headers = () => (key === "" ? {} : { Authorization: `Bearer ${key}` });

async function connect() {
  connection?.abort();
  const own = new AbortController();
  connection = own;
  let wait = 500;
  while (!own.signal.aborted) {
    try {
      const query = new URLSearchParams(chosen === null ? {} : chosen);
      if (colourMode() === "mass") {
        query.set("mass", "1");
      }

      const answer = await fetch(`live/events?${query}`, { headers: headers(), signal: own.signal, cache: "no-store" });
      if (answer.status === 401) {
        askForKey();
        return;
      }

      if (answer.ok) {
        byId("login").hidden = true;
        wait = 500;
        await read(answer.body);
      }
    } catch (error) {
      if (own.signal.aborted) {
        return;
      }
    }

    if (!own.signal.aborted) {
      state("not connected, trying again");
      await new Promise((done) => setTimeout(done, wait));
      wait = Math.min(wait * 2, 8000);
    }
  }
}

async function read(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }

    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = text.slice(0, end);
      text = text.slice(end + 2);
      if (event.startsWith("data: ")) {
        take(JSON.parse(event.slice(6)));
      }
    }
  }
}

function askForKey() {
  byId("login").hidden = false;
  byId("login-error").textContent = key === "" ? "" : "That key is not one of this server's.";
  state("a key is needed");
  byId("key").focus();
}

function state(text) {
  if (byId("state").textContent !== text) {
    byId("state").textContent = text;
  }
}

function take(picture) {
  follow(picture);
  if (!paused) {
    draw(picture);
  }
}

// The chosen sequence, or the first that has pages.
function follow(picture) {
  const alive = (one) => picture.answers.some((answer) => answer.id === one.id && answer.choice === one.choice);
  if (chosen !== null && alive(chosen)) {
    return;
  }

  const next = picture.answers.find((answer) => answer.computed_tokens > 0);
  if (next !== undefined && !paused) {
    choose(next.id, next.choice);
  }
}

function choose(id, choice) {
  chosen = { id, choice };
  cursor = { row: 0, page: 0 };
  connect();
}

function draw(picture) {
  // A map stays while a new connection has not sent one.
  shown = { ...picture, map: picture.map ?? shown?.map ?? null };
  byId("model").textContent = picture.model;
  byId("device").textContent = picture.device;
  state(picture.is_draining ? "about to stop" : "live");
  drawSpeed(picture.serving);
  drawMemory(picture.memory, picture.is_admin);
  drawAnswers(picture.answers);
  drawMap();
  speak(picture);
}

function drawSpeed(serving) {
  const prompt = serving.prompt_tokens + serving.reused_tokens;
  const values = {
    "tokens_per_second": [serving.tokens_per_second, number(serving.tokens_per_second, 1)],
    "first_token.p50": [serving.first_token.p50, milliseconds(serving.first_token, "p50")],
    "first_token.p95": [serving.first_token.p95, milliseconds(serving.first_token, "p95")],
    "next_token.p50": [serving.next_token.p50, milliseconds(serving.next_token, "p50")],
    "next_token.p95": [serving.next_token.p95, milliseconds(serving.next_token, "p95")],
    "hit_rate": [serving.reused_tokens, prompt === 0 ? "–" : `${number((100 * serving.reused_tokens) / prompt, 1)} %`],
  };
  for (const place of document.querySelectorAll("[data-stat]")) {
    const [value, text] = values[place.dataset.stat] ?? [serving[place.dataset.stat], number(serving[place.dataset.stat])];
    place.dataset.value = value;
    place.textContent = text;
  }
}

function drawMemory(memory, isAdmin) {
  byId("memory").value = memory.budget === 0 ? 0 : memory.allocated / memory.budget;
  byId("memory").dataset.value = memory.allocated;
  const also = [
    memory.cached > 0 ? `${bytes(memory.cached)} only wait to be reused` : "",
    memory.swapped > 0 ? `${bytes(memory.swapped)} of answers are swapped out` : "",
    memory.away_pages > 0 ? `${number(memory.away_pages)} pages are in host memory` : "",
  ].filter((text) => text !== "");
  byId("memory-text").textContent = [`${bytes(memory.allocated)} of ${bytes(memory.budget)} in use`, ...also].join("; ");
  byId("formats").replaceChildren(...memory.formats.map((one) =>
    row([one.name, number(one.open), number(one.sealed), bytes(one.bytes)], { "data-format": one.name, "data-open": one.open, "data-sealed": one.sealed, "data-bytes": one.bytes })));
  byId("tiers").replaceChildren(...(memory.tiers.length === 0
    ? [row(["none", "", "", "", ""])]
    : memory.tiers.map((one) => row([one.name, bytes(one.bytes), number(one.read), number(one.missed), number(one.written)]))));
  const slider = byId("watermark");
  slider.disabled = !memory.has_policy || !isAdmin;
  byId("watermark-note").textContent = !memory.has_policy ? "The cache has no policy, so that no page is dropped or shrunk." : !isAdmin ? "Only the administrator's key may move it." : "";
  if (!sending && Date.now() - touched > settles) {
    slider.value = Math.round(memory.watermark * 100);
    byId("watermark-value").textContent = `${number(memory.watermark * 100)} %`;
  }
}

// Rows are kept while their sequence lives, so that the focus stays where it is.
function drawAnswers(answers) {
  const body = byId("answers");
  const before = new Map([...body.children].map((one) => [one.dataset.answer, one]));
  const rows = answers.map((one) => {
    const name = `${one.id}.${one.choice}`;
    const texts = [name, one.tenant ?? "–", one.state, number(one.prompt_tokens), number(one.new_tokens), number(one.computed_tokens)];
    let made = before.get(name);
    if (made === undefined) {
      const button = element("button", "Show", { type: "button", "aria-label": `Show the pages of request ${name}` });
      button.addEventListener("click", () => choose(one.id, one.choice));
      const cell = element("td", "");
      cell.append(button);
      made = row([...texts, cell], { "data-answer": name });
    }

    texts.forEach((text, i) => { made.children[i].textContent = text; });
    made.querySelector("button").setAttribute("aria-pressed", String(chosen !== null && chosen.id === one.id && chosen.choice === one.choice));
    before.delete(name);
    return made;
  });
  before.forEach((gone) => gone.remove());
  rows.forEach((one, i) => {
    if (body.children[i] !== one) {
      body.insertBefore(one, body.children[i] ?? null);
    }
  });
}

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
    const top = top_of(map, r, height);
    row.forEach((_, p) => {
      context.fillStyle = cellColour(map, r, p, colour);
      context.fillRect(p * width, top, width - inset, height - 1);
    });
  });
  if (document.activeElement === canvas) {
    context.strokeStyle = colour("text");
    context.strokeRect((cursor.page * width) + .5, top_of(map, cursor.row, height) + .5, width - 1, height - 1);
  }

  describeMap(map);
  drawLegend(map);
  drawCells(map);
}

const top_of = (map, r, height) => (r * height) + (Math.floor(r / map.heads) * gap);

function describeMap(map) {
  const places = [0, 0, 0];
  map.places.forEach((row) => row.forEach((place) => { places[place]++; }));
  const from = map.first_page > 0 ? ` (from page ${number(map.first_page)} on)` : "";
  const text = `Request ${map.id}.${map.choice}: ${number(map.length)} tokens, ${map.layers} layers × ${map.heads} KV heads × ${map.places[0].length} pages of ${map.page_tokens} tokens${from}; `
    + `${number(places[1])} pages on the device, ${number(places[2])} in host memory, ${number(places[0])} gone`;
  byId("map-text").textContent = text;
  [byId("map-text").dataset.answer, byId("map-text").dataset.length] = [`${map.id}.${map.choice}`, map.length];
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

  cursor.row = Math.max(0, Math.min(cursor.row, map.places.length - 1));
  cursor.page = Math.max(0, Math.min(cursor.page, map.places[0].length - 1));
  const first = (cursor.page + map.first_page) * map.page_tokens;
  const last = Math.min(first + map.page_tokens, map.length) - 1;
  const place = map.places[cursor.row][cursor.page];
  byId("cell").textContent = `Layer ${Math.floor(cursor.row / map.heads)}, KV head ${cursor.row % map.heads}, tokens ${first} to ${last}: ${cellText(map, cursor.row, cursor.page)}`
    + (place === 0 ? "" : `, ${placeNames[place]}`);
  drawMap();
}

// Screen readers hear a summary now and then, not every number twice a second.
function speak(picture) {
  if (Date.now() - lastSpoken < spokenEvery) {
    return;
  }

  lastSpoken = Date.now();
  const serving = picture.serving;
  byId("summary").textContent = `${number(serving.tokens_per_second)} tokens a second, ${serving.running} answers run, ${serving.waiting} wait, ${byId("memory-text").textContent}`;
}

// One at a time, so that the last one holds.
async function moveBudget() {
  if (sending) {
    return;
  }

  sending = true;
  try {
    for (let sent = null; sent !== byId("watermark").value;) {
      sent = byId("watermark").value;
      const answer = await fetch("live/budget", {
        method: "POST", headers: { ...headers(), "Content-Type": "application/json" }, body: JSON.stringify({ watermark: Number(sent) / 100 }),
      });
      byId("watermark-note").textContent = answer.ok ? "" : "The server refused it.";
    }
  } finally {
    sending = false;
  }
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
});
byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value;
  sessionStorage.setItem(keyName, key);
  byId("key").value = "";
  connect();
});
byId("watermark").addEventListener("input", () => {
  touched = Date.now();
  byId("watermark-value").textContent = `${byId("watermark").value} %`;
});
byId("watermark").addEventListener("change", moveBudget);
document.querySelectorAll("input[name=colour]").forEach((one) => one.addEventListener("change", () => {
  drawMap();
  connect();
}));
byId("map-table").addEventListener("toggle", drawMap);
byId("map").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (step !== undefined) {
    event.preventDefault();
    cursor = { row: cursor.row + step[0], page: cursor.page + step[1] };
    describeCell();
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
connect();
