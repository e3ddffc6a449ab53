// One chart: uPlot draws it, and a table of its numbers lies behind it.
import { el, shown } from "./dom.js";

// Okabe and Ito's colours, then two of Tol's, as in mrpo.observe.axes; those too dark for a dark page are lighter there.
const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B87F00", "#56B4E9", "#882255", "#332288"];
const DARK = ["#4DA3DC", "#F0803C", "#2CC79A", "#E09DC0", "#E69F00", "#8CCBF0", "#C97FA4", "#9A8FE0"];
const DASHES = [undefined, [7, 3], [2, 3]];
const TABLE = 500; // rows behind a chart at once

export const isDark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colourOf = (place) => (isDark() ? DARK : LIGHT)[place % LIGHT.length];
const faint = (colour, alpha) => colour + Math.round(alpha * 255).toString(16).padStart(2, "0");

/** Steps of a rolling mean: as mrpo.observe.summary has it. */
const windowOf = (count) => (count < 15 ? 1 : Math.max(3, (Math.floor(Math.floor(count / 10) / 2) * 2) + 1));

export function smoothed(values, width) {
  const half = (width - 1) / 2;
  return Array.from(values, (value, i) => {
    if (value === null) return null;
    const near = Array.from(values.slice(Math.max(0, i - half), i + half + 1)).filter((v) => v !== null);
    return near.reduce((a, b) => a + b, 0) / near.length;
  });
}

/** chart: {title, unit, low, high, stack, lines: [{label, colour or place, values, lowValues, highValues, points}]}; steps in common.
 *  Values are numbers or null. marks: [{kind, step}]. Returns the figure's element, whose `.draw()` makes the canvas. */
export function figureOf(chart, steps, marks, { smooth }) {
  const holder = el("div", { class: "plot" });
  const names = chart.lines.map((line) => `${line.label} ${shown(last(line.values))}`).join(", ");
  holder.setAttribute("role", "img");
  holder.setAttribute("aria-label", `${chart.title} by step, ${chart.unit}. Last values: ${names}. The table below has all numbers.`);
  const table = el("details", {}, el("summary", {}, "Table"));
  table.addEventListener("toggle", () => { if (table.open && table.children.length === 1) table.append(tableOf(chart, steps)); });
  const figure = el("figure", {}, el("figcaption", {}, el("b", {}, chart.title), " ", el("span", { class: "note" }, chart.unit)), holder, table);
  let plot = null;
  figure.draw = () => {
    plot?.destroy();
    plot = new uPlot(optionsOf(chart, steps, marks, smooth, holder.clientWidth || 380), dataOf(chart, steps, smooth), holder);
  };
  figure.resize = () => plot?.setSize({ width: holder.clientWidth, height: 210 });
  return figure;
}

const last = (values) => { for (let i = values.length - 1; i >= 0; i--) if (values[i] !== null) return values[i]; return null; };

/** uPlot's columns: a step's values, and for each line what belongs to it. The order is that of seriesOf. */
function dataOf(chart, steps, smooth) {
  const data = [steps];
  const floor = new Array(steps.length).fill(0);
  const tops = chart.lines.map((line) => line.values.map((value, i) => (floor[i] += value ?? 0)));
  if (chart.stack) return [steps, ...tops.reverse()];
  const width = smooth ? windowOf(steps.length) : 1;
  for (const line of chart.lines) {
    if (width > 1) data.push(line.values);
    data.push(smoothed(line.values, width));
    if (line.lowValues) data.push(smoothed(line.lowValues, width), smoothed(line.highValues, width));
    if (line.points) data.push(line.points);
  }
  return data;
}

function optionsOf(chart, steps, marks, smooth, width) {
  // Without a cursor the legend has the last step's values.
  const series = [{ label: "step", value: (_, given) => String(given ?? steps.at(-1)) }], bands = [];
  const value = (plot, given, place, at) => shown(at === null ? last(plot.data[place]) : given);
  const colour = (line) => () => line.colour ?? colourOf(line.place);
  const smoothing = smooth && windowOf(steps.length) > 1;
  if (chart.stack) {
    [...chart.lines].reverse().forEach((line) => series.push({
      label: line.label, stroke: colour(line), fill: colour(line), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [1, 40], gap: 1 }),
      value: (_, __, ___, at) => shown(at === null ? last(line.values) : line.values[at], 2) }));
  } else {
    for (const line of chart.lines) {
      const few = steps.length < 60;
      if (smoothing) series.push({ label: "", stroke: () => faint(colour(line)(), 0.4), width: 0.8, points: { show: false }, class: "raw" });
      series.push({ label: line.label, stroke: colour(line), width: 2, dash: DASHES[Math.floor((line.place ?? 0) / 4) % 3], points: { show: few && !smoothing, size: 4 }, spanGaps: true, value });
      if (line.lowValues) {
        const at = series.length;
        for (const end of ["lowest", "highest"]) series.push({ label: end, stroke: "transparent", width: 0, points: { show: false }, spanGaps: true, class: "raw", value });
        bands.push({ series: [at + 1, at], fill: () => faint(colour(line)(), 0.15) });
      }
      if (line.points) series.push({ label: "validation", stroke: colour(line), width: 0, paths: () => null, points: { show: true, size: 9, fill: () => ink("--back"), width: 2 }, value });
    }
  }
  const axis = { stroke: () => ink("--faint"), grid: { stroke: () => ink("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const range = (_, low, high) => {
    const [a, b] = [Math.min(chart.low ?? low, low), Math.max(chart.high ?? high, high)];
    const pad = (b - a || Math.abs(b) || 1) * 0.04;
    return [a === chart.low ? a : a - pad, b + pad];
  };
  return {
    width, height: 210, series, bands, cursor: { sync: { key: "steps" }, drag: { x: true, y: false }, points: { size: 6 } },
    scales: { x: { time: false, range: (_, low, high) => (low === high || chart.stack ? [low - 0.5, high + 0.5] : [low, high]) }, y: { range } },
    axes: [{ ...axis, size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }, { ...axis, size: 52, values: (_, ticks) => ticks.map(tick) }],
    legend: { live: true, markers: { width: 2 } },
    hooks: { draw: [(plot) => drawMarks(plot, marks)] },
  };
}

const tick = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(4))));

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const mark of marks) {
    const x = plot.valToPos(mark.step, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = mark.kind === "restart" ? "#D55E00" : ink("--faint");
    ctx.globalAlpha = 0.7;
    ctx.setLineDash(mark.kind === "restart" ? [] : [2, 4]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + (mark.kind === "restart" ? bbox.height : 10 * devicePixelRatio));
    ctx.stroke();
  }
  ctx.restore();
}

/** The numbers of a chart: all steps, or the last ones with a word on the rest. */
export function tableOf(chart, steps) {
  const columns = chart.lines.flatMap((line) => [[line.label, line.values], ...(line.points ? [["validation", line.points]] : [])]);
  const from = Math.max(0, steps.length - TABLE);
  const rows = Array.from(steps.slice(from), (step, i) =>
    el("tr", {}, el("th", { scope: "row" }, step), columns.map(([, values]) => el("td", {}, shown(values[from + i], 4)))));
  return el("div", { class: "scroll" }, el("table", {},
    el("caption", {}, `${chart.title}, ${chart.unit}${from ? `; the last ${TABLE} of ${steps.length} steps` : ""}`),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "step"), columns.map(([label]) => el("th", { scope: "col" }, label)))), el("tbody", {}, rows)));
}
