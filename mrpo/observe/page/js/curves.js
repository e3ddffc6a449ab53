// Which charts there are: those of one run, or each line of them with all runs laid over each other.
import { byId, el, shown } from "./dom.js";
import { figureOf } from "./chart.js";
import { unpack } from "./store.js";

/** A run's metrics, opened when they are first needed. */
export class Metrics {
  constructor(run) {
    this.run = run;
    this.columns = new Map();
  }

  async open() {
    this.steps ??= Array.from(await unpack(this.run.steps));
    return this;
  }

  has(name) {
    return name in this.run.metrics;
  }

  /** Values by step, null where the run has none. */
  async values(name) {
    if (!this.has(name)) return null;
    if (!this.columns.has(name)) this.columns.set(name, Array.from(await unpack(this.run.metrics[name]), (v) => (Number.isFinite(v) ? v : null)));
    return this.columns.get(name);
  }

  /** The value in a step, or in the last one before it that has one. */
  async at(name, step) {
    const values = await this.values(name);
    for (let i = this.steps.length - 1; values && i >= 0; i--) if (this.steps[i] <= step && values[i] !== null) return values[i];
    return null;
  }
}

async function lineOf(metrics, series, place, colour) {
  const values = await metrics.values(series.metric);
  if (!values) return null;
  const line = { label: series.label, place, colour, values };
  const std = series.std && (await metrics.values(series.std));
  if (std) {
    line.lowValues = values.map((v, i) => (v === null || std[i] === null ? null : v - std[i]));
    line.highValues = values.map((v, i) => (v === null || std[i] === null ? null : v + std[i]));
  } else if (series.low && series.high) {
    [line.lowValues, line.highValues] = [await metrics.values(series.low), await metrics.values(series.high)];
  }
  if (series.points) line.points = await metrics.values(series.points);
  return line;
}

/** The charts of one run: [section, chart, steps, marks]. */
async function chartsOf(metrics) {
  const found = [];
  for (const chart of metrics.run.charts) {
    const lines = (await Promise.all(chart.series.map((one, i) => lineOf(metrics, one, one.place, chart.colours[i])))).filter(Boolean);
    found.push([chart.section, { ...chart, lines }, metrics.steps, metrics.run.marks]);
  }
  return found;
}

/** All runs in each chart: a chart for each line that any of them has. */
async function overlaid(all) {
  const titles = new Map(); // by section and metric, in order of appearance
  for (const { run } of all) for (const chart of run.charts) for (const one of chart.series) {
    const title = chart.series.length > 1 ? `${chart.title}: ${one.label}` : chart.title;
    if (!titles.has(one.metric)) titles.set(one.metric, [chart.section, { ...chart, title, stack: false }, one]);
  }
  const steps = [...new Set(all.flatMap((metrics) => metrics.steps))].sort((a, b) => a - b);
  const found = [];
  for (const [section, chart, one] of titles.values()) {
    const lines = [];
    for (const [place, metrics] of all.entries()) {
      const line = await lineOf(metrics, { ...one, label: metrics.run.name, std: "", low: "", high: "" }, place);
      if (line) lines.push({ ...line, ...placed(line, metrics.steps, steps) });
    }
    found.push([section, { ...chart, lines, unit: chart.unit.split("; band")[0] }, steps, []]);
  }
  return found;
}

/** A line's values at the steps of all runs. */
function placed(line, own, steps) {
  const at = new Map(own.map((step, i) => [step, i]));
  const over = (values) => values && steps.map((step) => (at.has(step) ? values[at.get(step)] : null));
  return { values: over(line.values), points: over(line.points) };
}

/** A matrix over pairs of rewards, of a step that is chosen. */
async function matrixOf(metrics, matrix) {
  const { rewards } = metrics.run;
  const pair = (a, b) => [`${matrix.metric}/${a}/${b}`, `${matrix.metric}/${b}/${a}`].find((name) => metrics.has(name));
  const columns = new Map();
  for (const a of rewards) for (const b of rewards) {
    const name = pair(a, b);
    if (a !== b && name) columns.set(`${rewards.indexOf(a)} ${rewards.indexOf(b)}`, await metrics.values(name));
  }
  const body = el("tbody"), caption = el("caption");
  const slider = el("input", { type: "range", min: 0, max: metrics.steps.length - 1, value: metrics.steps.length - 1, "aria-label": `Step of the ${matrix.title}` });
  const draw = () => {
    const step = metrics.steps[slider.value];
    slider.setAttribute("aria-valuetext", `step ${step}`);
    caption.textContent = `${matrix.title} of rewards within groups, step ${step}`;
    body.replaceChildren(...rewards.map((a, i) => el("tr", {}, el("th", { scope: "row" }, a), rewards.map((b, j) => {
      const value = columns.get(`${i} ${j}`)?.[slider.value] ?? null;
      const cell = el("td", {}, i === j ? "" : shown(value, 2));
      if (value !== null && i !== j) cell.style.backgroundColor = `rgba(${value < 0 ? "213, 94, 0" : "0, 114, 178"}, ${Math.min(1, Math.abs(value)) * 0.65})`;
      return cell;
    }))));
  };
  slider.addEventListener("input", draw);
  draw();
  return el("figure", { class: "matrix" }, el("div", { class: "scroll" }, el("table", {}, caption,
    el("thead", {}, el("tr", {}, el("td"), rewards.map((name) => el("th", { scope: "col" }, name)))), body)), el("label", {}, "step ", slider));
}

export class Curves {
  constructor(runs) {
    this.all = runs.map((run) => new Metrics(run));
    this.root = byId("charts");
    this.figures = [];
    this.turn = 0;
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { this.seen.unobserve(entry.target); entry.target.draw(); entry.target.drawn = true; }
    }, { rootMargin: "300px" });
    byId("smooth").addEventListener("change", () => this.show(this.shown));
    byId("metric").addEventListener("change", () => this.show(this.shown));
    new ResizeObserver(() => this.figures.forEach((figure) => figure.drawn && figure.resize())).observe(this.root);
  }

  /** Draws one run's charts, or all runs' ("") over each other. */
  async show(run) {
    this.shown = run;
    const turn = ++this.turn;
    await Promise.all(this.all.map((metrics) => metrics.open()));
    const chosen = run === "" ? this.all : [this.all[run]];
    const found = chosen.length > 1 ? await overlaid(chosen) : await chartsOf(chosen[0]);
    const own = await this.any(chosen);
    const matrices = chosen.length > 1 ? [] : await Promise.all(chosen[0].run.matrices.map((one) => matrixOf(chosen[0], one)));
    if (turn !== this.turn) return;
    this.seen.disconnect();
    const sections = new Map(own ? [["Chosen", [own]]] : []);
    for (const [section, ...rest] of found) sections.set(section, [...(sections.get(section) ?? []), rest]);
    this.figures = [];
    this.root.replaceChildren(...[...sections].map(([name, charts]) => {
      const figures = charts.map(([chart, steps, marks]) => figureOf(chart, steps, marks, { smooth: byId("smooth").checked }));
      this.figures.push(...figures);
      return el("section", { "aria-label": name }, el("h2", {}, name), el("div", { class: "charts" }, figures, name === "Advantage" ? matrices : null));
    }), sections.size ? "" : el("p", {}, "No step has ended yet."));
    this.figures.forEach((figure) => this.seen.observe(figure));
    const names = new Set(chosen.flatMap((metrics) => Object.keys(metrics.run.metrics).filter((name) => !name.startsWith("page/"))));
    byId("metrics").replaceChildren(...[...names].sort().map((name) => el("option", { value: name })));
    const thinned = chosen.filter((metrics) => metrics.run.every > 1).map((metrics) => `${metrics.run.name}: every ${metrics.run.every} steps of it are drawn.`);
    const kinds = new Set(chosen.length > 1 ? [] : chosen[0].run.marks.map((mark) => mark.kind));
    const key = [kinds.has("checkpoint") && "Short dashes at the top: checkpoints.", kinds.has("restart") && "Red lines: the run was started again.", "Drag to zoom, double-click to see all."];
    byId("curves-note").textContent = [...key.filter(Boolean), ...thinned].join(" ");
  }

  /** The chart of a metric that was named. */
  async any(chosen) {
    const name = byId("metric").value.trim();
    const having = chosen.filter((metrics) => metrics.has(name));
    if (!name || !having.length) return null;
    const [[, chart, steps, marks]] = having.length > 1
      ? await overlaid(having.map((metrics) => Object.assign(new Metrics({ ...metrics.run, charts: [plain(name)] }), { steps: metrics.steps })))
      : await chartsOf(Object.assign(new Metrics({ ...having[0].run, charts: [plain(name)] }), { steps: having[0].steps }));
    return [chart, steps, marks];
  }

  /** After the colours of the page have changed. */
  redraw() {
    this.figures.forEach((figure) => figure.drawn && figure.draw());
  }

  /** Each reward's weight and effective weight in a step of a run, as far as they are known. */
  async weights(run, step) {
    const metrics = await this.all[run].open();
    const found = {};
    for (const name of metrics.run.rewards) {
      found[name] = { weight: (await metrics.at(`reward/${name}/weight`, step)) ?? metrics.run.weights[name] ?? null, effective: await metrics.at(`reward/${name}/effective_weight`, step) };
    }
    return found;
  }
}

const plain = (name) => ({ section: "Chosen", title: name, unit: "", low: null, high: null, stack: false, colours: [], series: [{ label: name, metric: name, place: 0, low: "", high: "", std: "", points: "" }] });
