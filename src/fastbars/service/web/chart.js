// The chart: candles, volume, and what their statuses look like. It draws numbers; what is read are the texts as sent.
import { STATUS_COLOURS, STATUS_OPACITY } from "./palette.js";

const VOLUME_PART = 0.2, STRIP_PX = 5;

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function faded(hex, alpha) {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
}

// "2025-01-31T12:00:00.250000Z" -> what is shown of it.
export function dateText(text) { return text.slice(0, 10); }
export function timeText(text) {
  const fraction = text.slice(19, 26).replace(/[^.\d].*$/, "").replace(/0+$/, "").replace(/\.$/, "");
  return text.slice(11, 19) + fraction;
}

function before(a, b) {  // in the order of time; of path-driven bars that begin at one time by number
  if (a.ms !== b.ms) return a.ms - b.ms;
  if ((a.index ?? 0) !== (b.index ?? 0)) return (a.index ?? 0) - (b.index ?? 0);
  const one = BigInt(a.first_trade_id ?? 0), other = BigInt(b.first_trade_id ?? 0);
  if (one !== other) return one < other ? -1 : 1;
  return Date.parse(a.close_time) - Date.parse(b.close_time);
}

export class Chart {
  constructor(element, onSelect, onOlder) {
    this.element = element;
    this.bars = [];         // in order; the bar in progress is apart
    this.open = null;
    this.byKey = new Map();
    this.byTime = new Map();  // time on the axis -> bar
    this.selected = null;
    this.onSelect = onSelect;
    this.texts = new Map();  // number -> price as sent
    this.drawn = [];
    const { createChart, CandlestickSeries, HistogramSeries, CrosshairMode } = window.LightweightCharts;
    this.chart = createChart(element, {
      autoSize: true,
      crosshair: { mode: CrosshairMode.Normal },
      timeScale: {
        timeVisible: true, secondsVisible: true, rightOffset: 4, barSpacing: 9, minBarSpacing: 1,
        tickMarkFormatter: (time, kind) => this.label(time, kind),
      },
      localization: { timeFormatter: (time) => this.label(time, -1), priceFormatter: (price) => this.priceText(price) },
      layout: { attributionLogo: true, fontFamily: getComputedStyle(document.body).fontFamily, fontSize: 12 },
      rightPriceScale: { borderVisible: false },
    });
    this.candles = this.chart.addSeries(CandlestickSeries, { priceLineVisible: true, lastValueVisible: true });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: .08, bottom: VOLUME_PART + .06 } });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 1 - VOLUME_PART, bottom: .03 } });
    this.candles.attachPrimitive(new Marks(this));
    this.chart.subscribeCrosshairMove((event) => {
      if (event.time === undefined) { this.select(null); return; }
      this.select(this.byTime.get(event.time) ?? null);
    });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < 5 && this.bars.length) onOlder();
    });
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.step(step);
    });
    this.theme();
  }

  theme() {
    const line = colour("line"), ink = colour("ink"), soft = colour("soft");
    this.chart.applyOptions({
      layout: { background: { color: colour("paper") }, textColor: soft },
      grid: { vertLines: { color: faded(line, .5) }, horzLines: { color: faded(line, .5) } },
      crosshair: { vertLine: { labelBackgroundColor: ink }, horzLine: { labelBackgroundColor: ink } },
      timeScale: { borderColor: line },
    });
    this.draw();
  }

  clear() {
    this.bars = [];
    this.open = null;
    this.byKey.clear();
    this.selected = null;
    this.draw();
  }

  all() { return this.open ? [...this.bars, this.open] : this.bars; }

  // Take bars as issued, later revisions of bars that are there, too.
  add(bars) {
    const fresh = [];
    for (const bar of bars) {
      bar.ms = Date.parse(bar.open_time);
      const held = this.byKey.get(bar.key);
      if (held && held.revision > bar.revision) continue;
      if (this.open && this.open.key === bar.key) this.open = null;
      bar.story = held ? (held.revision === bar.revision ? held.story : [...held.story, tale(held)]) : [];
      if (bar.status === "RETRACTED") {
        this.byKey.delete(bar.key);
      } else {
        this.byKey.set(bar.key, bar);
        if (held) continue;
        fresh.push(bar);
      }
    }
    const last = this.bars.at(-1);
    this.bars = this.bars.map((bar) => this.byKey.get(bar.key)).filter(Boolean).concat(fresh);
    if (fresh.length > 1 || (last && fresh.length && before(last, fresh[0]) > 0)) this.bars.sort(before);
    this.draw();
  }

  // The bar in progress; null where there is none.
  update(bar) {
    if (bar) {
      bar.ms = Date.parse(bar.open_time);
      bar.story = [];
      if (this.byKey.has(bar.key)) bar = null;  // it was issued meanwhile
    }
    this.open = bar;
    this.draw();
  }

  // Once a frame, however much has come.
  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.drawNow();
    });
  }

  drawNow() {
    const bars = this.drawn = this.all();
    const old = this.byTime.size;
    this.byTime.clear();
    this.texts.clear();
    const up = colour("up"), down = colour("down"), gap = colour("gap");
    const candles = [], volumes = [];
    let time = -Infinity, decimals = 0;
    for (const bar of bars) {
      // Bars of one second, and bars shorter than one, are set a second apart; labels have the real times.
      time = Math.max(time + 1, Math.floor(bar.ms / 1000));
      bar.time = time;
      this.byTime.set(time, bar);
      if (bar.open === null) {
        candles.push({ time });
        volumes.push({ time });
        continue;
      }
      const open = Number(bar.open), close = Number(bar.close);
      const main = bar.status === "GAP" ? gap : close >= open ? up : down;
      const [body, outline] = bar.close_reason === "open" ? [.45, 1] : STATUS_OPACITY[bar.status] ?? [1, 1];
      candles.push({
        time, open, high: Number(bar.high), low: Number(bar.low), close,
        color: faded(main, body), borderColor: faded(main, outline), wickColor: faded(main, outline),
      });
      volumes.push({ time, value: Number(bar.volume), color: faded(main, .38 * outline) });
      for (const text of [bar.open, bar.close]) decimals = Math.max(decimals, (text.split(".")[1] ?? "").length);
      this.texts.set(close, bar.close);
    }
    if (decimals !== this.decimals) {
      this.decimals = decimals;
      const shown = Math.min(decimals, 12);
      this.candles.applyOptions({
        priceFormat: { type: "custom", minMove: 10 ** -shown, formatter: (price) => this.priceText(price) },
      });
    }
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    const grown = this.shift ?? 0;
    this.candles.setData(candles);
    this.volume.setData(volumes);
    if (grown && range) scale.setVisibleLogicalRange({ from: range.from + grown, to: range.to + grown });
    else if (!old && bars.length) scale.scrollToRealTime();
    this.shift = 0;
    if (this.selected) this.selected = this.byTime.get(this.selected.time) ?? null;
    this.onSelect(this.selected ?? bars.at(-1) ?? null, this.lastPriced());
  }

  // Older bars, which must not move what is looked at.
  addOlder(bars) {
    const count = this.bars.length;
    this.add(bars);
    this.shift = (this.shift ?? 0) + this.bars.length - count;
    return this.bars.length - count;
  }

  select(bar) {
    if (this.selected === bar) return;
    this.selected = bar;
    this.onSelect(bar ?? this.all().at(-1) ?? null, this.lastPriced());
  }

  lastPriced() { return this.all().findLast((bar) => bar.close !== null) ?? null; }

  step(by) {
    const bars = this.all();
    if (!bars.length) return;
    const at = this.selected ? bars.findIndex((bar) => bar.time === this.selected.time) : bars.length - (by < 0 ? 0 : 1);
    const bar = bars[Math.max(0, Math.min(bars.length - 1, at + by))];
    const price = bar.close === null ? Number(bars.find((one) => one.close !== null)?.close ?? 0) : Number(bar.close);
    this.chart.setCrosshairPosition(price, bar.time, this.candles);
    this.select(bar);
  }

  // On the axis. A price with more digits than a number can hold is shown as it was sent.
  priceText(price) {
    const sent = this.texts.get(price);
    return sent && sent.length > 16 ? sent : price.toFixed(Math.min(this.decimals ?? 2, 12));
  }

  label(time, kind) {
    const bar = this.byTime.get(time);
    const text = bar ? bar.open_time : new Date(time * 1000).toISOString();
    if (kind === -1) return dateText(text) + " " + timeText(text);
    if (kind === 0) return text.slice(0, 4);
    if (kind === 1) return text.slice(0, 7);
    if (kind === 2) return text.slice(5, 10);
    return kind === 3 ? text.slice(11, 16) : text.slice(11, 19);
  }
}

export function tale(bar) {
  const missing = bar.missing_count ? `, ${bar.missing_count} missing` : "";
  return `revision ${bar.revision}: ${bar.status}${missing}, ${bar.trade_count ?? "?"} trades`;
}

// What is drawn around the candles: gaps as hatched bands, marks of healed bars, and a strip of statuses below.
class Marks {
  constructor(owner) {
    this.owner = owner;
    const view = (order, draw) => ({ zOrder: () => order, renderer: () => ({ draw: (target) => target.useBitmapCoordinateSpace(draw) }) });
    this.views = [view("bottom", (scope) => this.bands(scope)), view("top", (scope) => this.marks(scope))];
  }
  paneViews() { return this.views; }
  updateAllViews() {}

  each(scope, draw) {
    const scale = this.owner.chart.timeScale();
    const half = scale.options().barSpacing / 2;
    for (const bar of this.owner.drawn) {
      const x = scale.timeToCoordinate(bar.time);
      if (x === null || x < -half || x > scope.mediaSize.width + half) continue;
      const from = Math.round((x - half) * scope.horizontalPixelRatio), to = Math.round((x + half) * scope.horizontalPixelRatio);
      draw(bar, from, Math.max(to, from + 1), x * scope.horizontalPixelRatio);
    }
  }

  bands(scope) {
    const { context } = scope, height = scope.bitmapSize.height, gap = colour("gap");
    this.each(scope, (bar, from, to) => {
      if (bar.status !== "GAP") return;
      context.fillStyle = faded(gap, .1);
      context.fillRect(from, 0, to - from, height);
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, height);
      context.clip();
      context.strokeStyle = faded(gap, .35);
      context.lineWidth = scope.verticalPixelRatio;
      context.beginPath();
      const step = 9 * scope.verticalPixelRatio, width = to - from;
      // One pattern over neighbouring bands.
      for (let y = -(from % step) - width; y < height + width; y += step) {
        context.moveTo(from, y + width);
        context.lineTo(to, y);
      }
      context.stroke();
      context.restore();
    });
  }

  marks(scope) {
    const { context } = scope, height = scope.bitmapSize.height, ratio = scope.verticalPixelRatio;
    this.each(scope, (bar, from, to, x) => {
      const gap = to - from > 4 ? 1 : 0;
      if (bar.close_reason !== "open") {
        context.fillStyle = colour(STATUS_COLOURS[bar.status]);
        context.fillRect(from + gap, height - STRIP_PX * ratio, to - from - gap, STRIP_PX * ratio);
      }
      if ((bar.status === "HEALED" || bar.status === "PUBLISHED") && bar.low !== null && bar.close_reason !== "open") {
        const y = this.owner.candles.priceToCoordinate(Number(bar.low));
        if (y === null) return;
        const size = Math.max(2.5, Math.min(5, (to - from) / ratio / 2)) * ratio;
        const top = y * ratio + 4 * ratio;
        context.fillStyle = colour(STATUS_COLOURS[bar.status]);
        context.beginPath();
        context.moveTo(x, top);
        context.lineTo(x + size, top + size * 1.6);
        context.lineTo(x - size, top + size * 1.6);
        context.fill();
      }
    });
  }
}
