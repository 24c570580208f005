// The page: which series is shown, what is known of a bar, how the feed is. All text from outside goes into text nodes.
import { Chart, dateText, timeText } from "./chart.js";

const FIRST_BARS = 500, OLDER_BARS = 500, MOST_BARS = 6000, ROWS = 60;
const MEANINGS = {
  COMPLETE: "trade ids prove that every trade is in it",
  HEALED: "had a hole, which was filled from the exchange's history",
  PUBLISHED: "lacks only ids that the exchange's history leaves out",
  PROVISIONAL: "whole so far; the next trade proves its end",
  UNVERIFIABLE: "the exchange's trades carry no ids that could prove it",
  SAMPLED: "made from sampled prices, not from trades",
  REPORTED: "the exchange's own candle",
  PARTIAL: "the stream began or ended inside it",
  GAP: "trades are known to be missing",
};
const REASONS = {
  trade: "a trade behind it", watermark: "event time passed its end", clock: "the clock passed its end",
  gap: "the clock, while the feed was down", end: "end of the subscription", candle: "the exchange's candle",
  anchor: "its anchor's interval ended", open: "in progress",
};
const by = (id) => document.getElementById(id);
const same = (a, b) => a && b && a.every((part, place) => part === b[place]);

let socket = null, series = null, specs = [], status = null, wanted = null;
let retryMs = 500, olderDone = false, olderAsked = false, statusMs = 0, touched = false;

function node(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function list(target, pairs) {
  target.replaceChildren(...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .flatMap(([name, value, id]) => [node("dt", name), node("dd", value, id ? { "data-field": id } : {})]));
}

function grouped(number) { return number.toLocaleString("en-US"); }
function seconds(value) {
  if (value === null || value === undefined) return null;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 120 ? `${value.toFixed(1)} s` : value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

// ---- one bar

function holesOf(bar) {
  if (!status || !series) return [];
  const from = Date.parse(bar.open_time), to = Date.parse(bar.close_time);
  return status.holes.filter((hole) => hole.exchange === series[0] && hole.market === series[1] && hole.symbol === series[2]
    && Date.parse(hole.since) < to && Date.parse(hole.until) >= from);
}

function gapText(bar) {
  const holes = holesOf(bar);
  if (bar.close_reason === "gap" && bar.open === null) return holes.length ? `the feed was down; ${whyOf(holes)}` : "the feed was down";
  const count = bar.missing_count === null ? "trades are missing" : `${bar.missing_count} trade${bar.missing_count === 1 ? " is" : "s are"} missing`;
  return holes.length ? `${count}; ${whyOf(holes)}` : count;
}
function whyOf(holes) {
  const why = holes.find((hole) => hole.why)?.why;
  return why ? `not healed: ${why}` : "healing is under way";
}

function showBar(bar, last) {
  const lastPrice = last?.close ?? null;
  by("last").textContent = lastPrice ?? "";
  by("last").dataset.way = lastPrice === null ? "" : Number(last.close) >= Number(last.open) ? "up" : "down";
  by("empty").hidden = Boolean(bar);
  by("proof").hidden = !bar;
  if (!bar) return;
  const open = bar.close_reason === "open";
  by("when").textContent = `${dateText(bar.open_time)} ${timeText(bar.open_time)} – ${timeText(bar.close_time)}`;
  by("status").textContent = open ? `${bar.status} · open` : bar.status;
  by("status").dataset.status = bar.status;
  by("meaning").textContent = open ? "in progress" : bar.status === "GAP" ? gapText(bar) : MEANINGS[bar.status] ?? "";
  list(by("prices"), [
    ["Open", bar.open ?? "–", "open"], ["High", bar.high ?? "–", "high"], ["Low", bar.low ?? "–", "low"],
    ["Close", bar.close ?? "–", "close"], ["Volume", bar.volume, "volume"],
  ]);
  const ids = bar.first_trade_id === null ? null : `${bar.first_trade_id} – ${bar.last_trade_id}`;
  const sides = bar.buy_count === null ? "" : ` (${bar.buy_count} bought, ${bar.sell_count} sold)`;
  list(by("facts"), [
    ["Trades", bar.trade_count === null ? null : `${bar.trade_count}${sides}`, "trade_count"],
    ["Quote volume", bar.quote_volume, "quote_volume"],
    ["Taker bought", bar.taker_buy_volume, "taker_buy_volume"],
    ["Delta", bar.delta, "delta"],
    ["Trade ids", ids, "ids"],
    ["Missing", bar.missing_count === null ? "not known" : String(bar.missing_count), "missing_count"],
    ["Unpublished", bar.unpublished_count || null, "unpublished_count"],
    ["Closed by", REASONS[bar.close_reason] ?? bar.close_reason, "close_reason"],
    ["Number", bar.index, "index"],
    ["Revision", open ? null : String(bar.revision), "revision"],
  ]);
  by("story").replaceChildren(...bar.story.slice(-4).map((text) => node("li", text)));
}

const COLUMNS = ["open", "high", "low", "close", "volume", "trade_count"];
const HEADS = ["Time", "Open", "High", "Low", "Close", "Volume", "Trades", "Status", "Rev", "Trade ids"];
function showTable() {
  if (!by("recent").open) return;
  const table = by("recent").querySelector("table");
  if (!table.tHead.rows.length) {
    const row = node("tr");
    row.append(...HEADS.map((head) => node("th", head)));
    table.tHead.append(row);
  }
  table.tBodies[0].replaceChildren(...chart.bars.slice(-ROWS).reverse().map((bar) => {
    const row = node("tr", undefined, { "data-key": bar.key });
    row.append(node("td", `${dateText(bar.open_time)} ${timeText(bar.open_time)}`));
    row.append(...COLUMNS.map((name) => node("td", bar[name] ?? "–", { "data-field": name })));
    const cell = node("td");
    cell.append(node("em", bar.status, { "data-status": bar.status }));
    row.append(cell, node("td", bar.revision), node("td", bar.first_trade_id === null ? "–" : `${bar.first_trade_id} – ${bar.last_trade_id}`));
    return row;
  }));
}

// ---- the feed

function stateOf(state) {
  if (state === "connected" || state === "up") return "good";
  return ["reconnecting", "connecting", "down"].includes(state) ? "wait" : "bad";
}

function showStatus() {
  const venues = Object.entries(status.venues), sinks = Object.entries(status.sinks);
  by("source").textContent = status.source;
  by("venues").replaceChildren(...venues.map(([name, venue]) => {
    const box = node("div", undefined, { class: "feed" });
    const head = node("h3");
    head.append(node("i", "", { class: "dot", "data-state": stateOf(venue.state) }), name, node("span", venue.state));
    const facts = node("dl");
    list(facts, [
      ["Trades a second", venue.rate === null ? "–" : grouped(Math.round(venue.rate)), "rate"],
      ["Latest trade", venue.age_s === null ? "–" : `${seconds(venue.age_s)} ago`, "age"],
      ["Delay (median, 99.9 %)", `${seconds(venue.delay_s)}, ${seconds(venue.delay_p999_s)}`],
      ["Reconnects", String(Math.max(venue.connections - 1, 0)), "reconnects"],
      ["Holes", String(venue.holes), "holes"],
      ["Late, refused", venue.late || venue.refused ? `${grouped(venue.late)}, ${grouped(venue.refused)}` : null],
      ["Equal to candles", venue.equal === null ? null : venue.different ? `${grouped(venue.equal)}; ${grouped(venue.different)} differ` : grouped(venue.equal)],
    ]);
    box.append(head, facts);
    if (venue.failure) box.append(node("p", venue.failure));
    return box;
  }));
  if (!venues.length) by("venues").replaceChildren(node("div", status.live ? "" : "Stored bars; no stream runs here.", { class: "feed" }));
  by("sinks-card").hidden = !sinks.length;
  by("sinks").replaceChildren(...sinks.map(([name, sink]) => {
    const box = node("div", undefined, { class: "feed" });
    const head = node("h3");
    head.append(node("i", "", { class: "dot", "data-state": stateOf(sink.state) }), name, node("span", sink.state));
    const facts = node("dl");
    list(facts, [["Waiting", grouped(sink.waiting)], ["Confirmed", grouped(sink.confirmed)], ["Lag", sink.waiting ? seconds(sink.lag_s) : null]]);
    box.append(head, facts);
    if (sink.error) box.append(node("p", sink.error));
    return box;
  }));
  const worst = venues.map(([, venue]) => stateOf(venue.state)).sort((a, b) => "good wait bad".indexOf(b) - "good wait bad".indexOf(a))[0];
  const holes = venues.reduce((sum, [, venue]) => sum + venue.holes, 0);
  const text = worst === "good" ? (holes ? `live, ${holes} hole${holes === 1 ? "" : "s"}` : "live") : worst === "wait" ? "reconnecting" : worst ? "ended" : "stored";
  showState(worst === "good" && holes ? "wait" : worst ?? "good", text);
}

function showState(state, text) {
  by("state").dataset.state = state;
  if (by("state").lastChild.textContent !== text) by("state").lastChild.textContent = text;
}

// ---- the connection

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/ws`);
  socket.onopen = () => { retryMs = 500; if (series) subscribe(); };
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = (event) => {
    showState("bad", event.reason || "page is not connected");
    setTimeout(connect, retryMs);
    retryMs = Math.min(retryMs * 2, 10000);
  };
}

function say(message) { if (socket?.readyState === 1) socket.send(JSON.stringify(message)); }
function named(one) { return { exchange: one[0], market: one[1], symbol: one[2], spec: one[3] }; }
function subscribe() { say({ subscribe: named(series), limit: FIRST_BARS }); }

function take(message) {
  statusMs = Date.now();
  if (message.type === "status") {
    status = message;
    showStatus();
    if (!series) openFirst();
    return;
  }
  if (!same(message.series, series)) return;
  if (message.type === "error") { by("empty").textContent = message.text; return; }
  if (message.type === "update") { chart.update(message.bar); return; }
  if (message.first) {
    chart.clear();
    olderDone = false;
    by("empty").textContent = "No bars yet.";
  }
  chart.add(message.bars);
  if (chart.bars.length > MOST_BARS) { chart.bars.splice(0, chart.bars.length - MOST_BARS).forEach((bar) => chart.byKey.delete(bar.key)); }
  showTable();
}

async function older() {
  if (olderDone || olderAsked || !chart.bars.length || chart.bars.length >= MOST_BARS) return;
  olderAsked = true;
  const asked = series;
  try {
    const query = new URLSearchParams({ ...named(series), until: chart.bars[0].open_time, limit: OLDER_BARS });
    const answer = await fetch(`/bars?${query}`);
    if (!answer.ok) throw new Error(await answer.text());
    const { bars } = await answer.json();
    if (same(asked, series)) olderDone = chart.addOlder(bars) === 0;
  } catch (error) {
    olderDone = true;
    by("empty").textContent = error.message;
  } finally {
    olderAsked = false;
  }
}

// ---- symbols and specs

async function ask(search, limit = 50) {
  const answer = await fetch(`/series?${new URLSearchParams({ search, limit })}`);
  return answer.ok ? answer.json() : { symbols: [], total: 0 };
}

function open(one, spec) {
  const before = series;
  series = [one.exchange, one.market, one.symbol, spec ?? (one.specs.includes(series?.[3]) ? series[3] : one.specs[0])];
  specs = one.specs;
  if (before && !same(before, series)) say({ unsubscribe: named(before) });
  by("symbol").textContent = series[2];
  by("venue").textContent = [series[0], series[1]].filter(Boolean).join(" ");
  by("search").value = "";
  document.title = `${series[2]} ${series[3]} – fastbars`;
  by("specs").replaceChildren(...specs.map((name) => {
    const button = node("button", name, { type: "button", "aria-pressed": String(name === series[3]) });
    button.onclick = () => open(one, name);
    return button;
  }));
  history.replaceState(null, "", "#" + series.map(encodeURIComponent).join("/"));
  by("empty").textContent = "Loading …";
  chart.clear();
  subscribe();
}

async function openFirst() {
  if (touched) return;
  touched = true;
  try {
    const parts = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (parts.length === 4) {
      const { symbols } = await ask(parts[2], 200);
      const found = symbols.find((one) => one.exchange === parts[0] && one.market === parts[1] && one.symbol === parts[2]);
      if (found) { open(found, found.specs.includes(parts[3]) ? parts[3] : undefined); return; }
    }
    const { symbols } = await ask("", 1);
    if (symbols.length) open(symbols[0]);
    else { by("empty").hidden = false; by("empty").textContent = "Nothing is subscribed to yet."; touched = false; }
  } catch { touched = false; }
}

const box = by("search"), found = by("found");
let shown = [], at = 0, timer = 0, asked = 0;

function pick(place) {
  const one = shown[place];
  if (!one) return;
  close();
  box.blur();
  open(one);
}
function close() { found.hidden = true; box.setAttribute("aria-expanded", "false"); }
function mark() {
  [...found.children].forEach((item, place) => item.setAttribute("aria-selected", String(place === at)));
  found.children[at]?.scrollIntoView({ block: "nearest" });
}
async function search() {
  const mine = ++asked;
  const { symbols, total } = await ask(box.value.trim());
  if (mine !== asked || document.activeElement !== box) return;
  shown = symbols;
  at = 0;
  found.replaceChildren(...symbols.map((one, place) => {
    const item = node("li", undefined, { role: "option" });
    item.append(node("b", one.symbol), node("span", [one.exchange, one.market].filter(Boolean).join(" ")));
    item.onpointerdown = (event) => { event.preventDefault(); pick(place); };
    return item;
  }));
  if (total > symbols.length) found.append(node("li", `${grouped(total - symbols.length)} more: type to narrow down`, { class: "more" }));
  if (!total) found.append(node("li", "No such symbol", { class: "more" }));
  found.hidden = false;
  box.setAttribute("aria-expanded", "true");
  mark();
}
box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 120); });
box.addEventListener("focus", search);
box.addEventListener("blur", close);
box.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    at = Math.max(0, Math.min(shown.length - 1, at + (event.key === "ArrowDown" ? 1 : -1)));
    mark();
  } else if (event.key === "Enter") pick(at);
  else if (event.key === "Escape") { close(); box.blur(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
});

// ---- light and dark

const THEMES = ["auto", "light", "dark"];
function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  by("theme").title = `Theme: ${theme === "auto" ? "as the system is" : theme}`;
  by("theme").setAttribute("aria-label", by("theme").title);
  try { localStorage.setItem("fastbars-theme", theme); } catch { /* not allowed: it is not remembered */ }
  chart.theme();
}
function savedTheme() {
  try { return localStorage.getItem("fastbars-theme") ?? "auto"; } catch { return "auto"; }
}
by("theme").onclick = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3]);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.theme());
by("recent").addEventListener("toggle", showTable);
addEventListener("hashchange", () => { touched = false; openFirst(); });

const chart = new Chart(by("chart"), showBar, older);
setTheme(THEMES.includes(savedTheme()) ? savedTheme() : "auto");
setInterval(() => { if (socket?.readyState === 1 && Date.now() - statusMs > 5000) showState("wait", "no news from the service"); }, 1000);
connect();
