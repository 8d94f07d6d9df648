// The live page: it reads pictures of the cache as server-sent events, two a second, and draws them.
// Events come by fetch and not by EventSource, which could not send a key. map.js, which comes after it, draws the map.
"use strict";

const byId = (id) => document.getElementById(id);
const keyName = "kvcache-key";
const spokenEvery = 15000; // Milliseconds between two summaries for screen readers.
const settles = 2000; // Milliseconds until pictures show where the slider was moved to.

let key = sessionStorage.getItem(keyName) ?? "";
let connection = null;
let chosen = null; // { id, choice }: what the map shows; null follows the first sequence.
let shown = null; // The picture that is drawn.
let paused = false;
let touched = 0; // When the slider was moved last: pictures of before leave it alone.
let sending = false; // A new budget is on its way.
let lastSpoken = 0;

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
document.addEventListener("DOMContentLoaded", connect);
