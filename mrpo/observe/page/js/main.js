// Puts the page together: tabs, theme, filters, table and group, and what the address says.
import { byId, el, settled, visible, whole } from "./dom.js";
import { Store } from "./store.js";
import { ordered, select } from "./query.js";
import { search } from "./search.js";
import { Table, columnsOf } from "./table.js";
import { Group } from "./group.js";
import { isDark } from "./chart.js";
import { Curves } from "./curves.js";
import { State } from "./state.js";
import { listenToKeys } from "./keys.js";
import { follow } from "./live.js";

const TABS = ["overview", "curves", "rollouts", "steps", "config"];
const given = JSON.parse(byId("data").textContent);
const state = new State();
const curves = new Curves(given.runs);
let store, table, group, columns;
let hits = null, found = null, running = null; // of the search: marks by row, the text they are of, and what can end it

// ---- tabs, runs, theme ----

function showTab() {
  const tab = TABS.includes(state.tab) ? state.tab : "overview";
  for (const name of TABS) {
    byId(name).hidden = name !== tab;
    byId(`tab-${name}`).setAttribute("aria-selected", name === tab);
    byId(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  if (tab === "curves" && curves.shown !== state.run) curves.show(given.runs.length === 1 ? 0 : state.run);
  if (tab === "rollouts" && table) table.draw();
}

function showRun() {
  for (const section of document.querySelectorAll("[data-run]")) section.hidden = state.run !== "" && section.dataset.run !== state.run;
  if (byId("run")) byId("run").value = state.run;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  curves.redraw();
}

function turnTheme() {
  const theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("mrpo-report-theme", theme); } catch { /* a browser that keeps nothing for local files */ }
  setTheme(theme);
}

function setUpPage() {
  try { setTheme(localStorage.getItem("mrpo-report-theme")); } catch { /* the same */ }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => curves.redraw());
  byId("theme").addEventListener("click", turnTheme);
  byId("run")?.addEventListener("change", (event) => state.set({ run: event.target.value }));
  const list = document.querySelector("nav");
  list.addEventListener("click", (event) => { if (event.target.role === "tab") state.set({ tab: event.target.id.slice(4) }); });
  list.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const tab = TABS[(TABS.indexOf(state.tab) + by + TABS.length) % TABS.length];
    state.set({ tab });
    byId(`tab-${tab}`).focus();
  });
}

// ---- rollouts ----

const FIELDS = { text: "text", kind: "kind", "step-low": "low", "step-high": "high", uid: "uid", keep: "keep", only: "only" };

function setUpFilters() {
  const form = byId("filters");
  const names = [...store.rewards.map((name, i) => [String(i), name]), ["advantage", "advantage"], ["tokens", "tokens"]];
  const end = (key, name, place) => el("input", { type: "number", step: "any", "data-range": key, "data-end": place, placeholder: place ? "max" : "min", "aria-label": `${visible(name)}, ${place ? "at most" : "at least"}` });
  byId("ranges").lastElementChild.append(...names.map(([key, name]) => el("div", { class: "range" }, el("span", {}, name), end(key, name, 0), end(key, name, 1))));
  const apply = settled(() => {
    const ranges = {};
    for (const input of form.querySelectorAll("[data-range]")) {
      const { range, end: place } = input.dataset;
      if (input.value !== "") (ranges[range] ??= ["", ""])[place] = input.value;
    }
    state.set({ ...Object.fromEntries(Object.entries(FIELDS).map(([id, name]) => [name, byId(id).value.trim()])), ranges });
  }, 120);
  form.addEventListener("input", apply);
  form.addEventListener("change", apply); // some ways of filling in a field tell only this
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => state.reset()));
}

function fillFilters() {
  for (const [id, name] of Object.entries(FIELDS)) if (byId(id).value.trim() !== state[name]) byId(id).value = state[name];
  const count = Object.keys(state.ranges).length;
  for (const input of byId("filters").querySelectorAll("[data-range]")) {
    const value = state.ranges[input.dataset.range]?.[input.dataset.end] ?? "";
    if (input.value !== value) input.value = value;
  }
  byId("ranges").querySelector("summary").textContent = count ? `Ranges (${count})` : "Ranges";
}

function showRows() {
  const key = columns.some((column) => column.key === state.sort) ? state.sort : "step";
  const down = state.down === "1";
  const started = performance.now();
  const rows = select(store, { ...state, hits: state.text ? hits : null, text: "" }, ordered(store, key, down));
  table.show(rows, key, down);
  performance.measure("filter", { start: started });
  byId("count").textContent = rows.length === store.rows ? `${whole(store.rows)} rollouts` : `${whole(rows.length)} of ${whole(store.rows)} rollouts`;
}

/** Looks for the text, shows hits as they come, and forgets an older search. */
async function look() {
  if (state.text === found) return showRows();
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const bar = byId("searching");
  found = state.text;
  hits = state.text ? new Uint8Array(store.rows) : null;
  showRows();
  if (!state.text) { bar.hidden = true; return; }
  const timer = setTimeout(() => { bar.hidden = false; }, 150);
  const all = await search(store, state.text, (share, marks) => { if (!signal.aborted) { bar.value = share; hits = marks; showRows(); } }, signal);
  clearTimeout(timer);
  if (!all) return;
  bar.hidden = true;
  hits = all;
  showRows();
  performance.mark("searched");
}

function sortBy(key) {
  state.set(key === state.sort ? { down: state.down === "1" ? "" : "1" } : { sort: key, down: "1" });
}

function nextColumn() {
  const keys = columns.map((column) => column.key).filter(Boolean);
  state.set({ sort: keys[(keys.indexOf(state.sort) + 1) % keys.length], down: "1" });
}

async function setUpRollouts() {
  store = await Store.open(given.rollouts);
  columns = columnsOf(store, given.runs);
  group = new Group(store, given.runs, {
    weights: (run, step) => curves.weights(run, step),
    only: (uid) => state.set({ uid }),
    closed: () => { state.set({ open: "" }); byId("table").querySelector("table").focus(); },
    chosen: (row) => state.set({ open: store.key(row) }),
    coloured: (colour) => state.set({ colour }),
  });
  group.tokens.paint(state.colour);
  table = new Table(byId("table"), store, columns, { opened: (row) => group.open(row), sorted: sortBy });
  setUpFilters();
  if (!store.tokenRows.length) byId("only").querySelector('[value="tokens"]').remove();
  const notes = [];
  if (store.withoutText) notes.push(`Texts of ${whole(store.withoutText)} rollouts found no room on this page, and are not searched: mrpo report --max-texts makes more.`);
  if (store.shortened) notes.push(`Texts of ${whole(store.shortened)} rollouts were shortened, where it says so.`);
  byId("rollouts-note").textContent = notes.join(" ");
  fillFilters();
  await look();
  performance.mark("rollouts-shown");
  const row = state.open ? store.find(state.open) : -1;
  if (row >= 0) { table.move(table.rows.indexOf(row)); group.open(row); }
}

// ---- all of it ----

const onRollouts = (call) => (...arguments_) => { if (state.tab !== "rollouts" || !table) return false; return call(...arguments_); };
const focusTable = () => byId("table").querySelector("table").focus({ preventScroll: true });

setUpPage();
showRun();
showTab();
state.listen((changed) => {
  if (changed.has("run")) showRun();
  if (changed.has("tab") || changed.has("run")) showTab();
  if (group && changed.has("colour")) group.tokens.paint(state.colour);
  const filters = ["run", "kind", "low", "high", "uid", "keep", "only", "text", "ranges", "sort", "down"];
  if (table && filters.some((name) => changed.has(name))) { fillFilters(); look(); }
});
listenToKeys({
  tab: (place) => state.set({ tab: TABS[place] }),
  search: () => { state.set({ tab: "rollouts" }); byId("text").focus(); byId("text").select(); },
  move: onRollouts((by) => { focusTable(); table.move(table.active + by); if (group.isOpen) group.open(table.rows[table.active]); }),
  open: onRollouts(() => { if (table.active >= 0) group.open(table.rows[table.active]); }),
  step: onRollouts((by) => (group.isOpen ? group.step(by) : false)),
  token: onRollouts((by) => (group.isOpen ? group.tokens.step(group.row, by) : false)),
  colour: onRollouts(() => (group.isOpen ? group.tokens.next() : false)),
  best: onRollouts(() => group.toBest()),
  sort: onRollouts(nextColumn),
  turn: onRollouts(() => sortBy(state.sort)),
  close: () => {
    if (document.activeElement?.matches("input, select")) { if (state.tab === "rollouts") focusTable(); else document.activeElement.blur(); }
    else if (group?.isOpen) group.close();
  },
  theme: turnTheme,
});
const version = byId("data").dataset.live;
if (version) follow(version, () => Boolean(group?.isOpen || document.querySelector("dialog[open]") || document.activeElement?.matches("input, select")));
setUpRollouts();
