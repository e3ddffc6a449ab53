// The table of rollouts: as many rows in the page as fit into view, whatever their number.
import { el, settled, shown, visible } from "./dom.js";

const ROW = 30; // pixels, as in page.css
const HIGHEST = 12_000_000; // browsers place nothing below some 17 million pixels

export class Table {
  /** columns: {title, key, width, text(row), title(row), numeric}; one without `key` can't be sorted by. */
  constructor(root, store, columns, { opened, sorted }) {
    Object.assign(this, { root, store, columns, opened, sorted, rows: new Uint32Array(0), active: -1, pool: [] });
    this.read = settled(() => this.pool.forEach((tr) => this.readTexts(tr)), 60);
    this.grid = root.querySelector("table");
    this.body = root.querySelector("tbody");
    this.above = el("tr", { "aria-hidden": "true", role: "presentation" });
    this.below = this.above.cloneNode();
    this.head = columns.map((column) => {
      const label = column.key === undefined ? column.title : el("button", { type: "button", click: () => sorted(column.key) }, column.title);
      const th = el("th", { scope: "col", class: column.numeric ? "number" : null, title: column.hint }, label);
      if (column.width) th.style.width = `${column.width}px`;
      return th;
    });
    root.querySelector("thead tr").append(...this.head);
    root.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(root);
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-place]");
      if (row) this.move(Number(row.dataset.place), true);
    });
    this.grid.addEventListener("keydown", (event) => this.key(event));
  }

  /** Shows these rows, in this order; the active one stays so if it is among them. */
  show(rows, key, down) {
    const before = this.rows[this.active];
    this.rows = rows;
    this.active = this.active < 0 ? -1 : rows.indexOf(before);
    this.grid.setAttribute("aria-rowcount", rows.length + 1);
    this.columns.forEach((column, i) => {
      if (column.key !== undefined) this.head[i].setAttribute("aria-sort", column.key !== key ? "none" : down ? "descending" : "ascending");
    });
    if (this.active < 0) this.root.scrollTop = 0;
    this.draw();
  }

  get visibleRows() {
    return Math.max(1, Math.floor((this.root.clientHeight - ROW) / ROW));
  }

  /** The place of the first row in view. */
  first() {
    const whole = this.rows.length * ROW;
    if (whole <= HIGHEST) return Math.floor(this.root.scrollTop / ROW);
    const share = this.root.scrollTop / (HIGHEST + ROW - this.root.clientHeight);
    return Math.floor(Math.min(1, share) * (this.rows.length - this.visibleRows));
  }

  draw() {
    if (!this.root.clientHeight) return;
    const count = Math.min(this.rows.length, this.visibleRows + 4);
    const from = Math.max(0, Math.min(this.first() - 1, this.rows.length - count));
    const height = Math.min(this.rows.length * ROW, HIGHEST);
    const top = this.rows.length * ROW <= HIGHEST ? from * ROW : Math.max(0, Math.min(this.root.scrollTop - ROW, height - count * ROW));
    this.above.style.height = `${top}px`;
    this.below.style.height = `${Math.max(0, height - top - count * ROW)}px`;
    while (this.pool.length < count) this.pool.push(el("tr", {}, this.columns.map((c) => el("td", { class: c.numeric ? "number" : null }))));
    const drawn = this.pool.slice(0, count);
    drawn.forEach((tr, i) => this.fill(tr, from + i));
    this.body.replaceChildren(this.above, ...drawn, this.below);
    const place = this.active >= from && this.active < from + count ? `place-${this.active}` : "";
    if (place) this.grid.setAttribute("aria-activedescendant", place);
    else this.grid.removeAttribute("aria-activedescendant");
    this.read();
  }

  /** Opens the texts of a row that is in view and stays there: those that are scrolled past aren't opened. */
  readTexts(tr) {
    if (!tr.waits || !tr.isConnected) return;
    tr.waits = false;
    const { row } = tr;
    this.columns.forEach((column, i) => {
      if (column.later) column.later(row).then((text) => { if (tr.row === row) tr.children[i].textContent = visible(text); });
    });
  }

  fill(tr, place) {
    const row = this.rows[place];
    tr.dataset.place = place;
    tr.id = `place-${place}`;
    tr.setAttribute("aria-rowindex", place + 2);
    tr.setAttribute("aria-selected", place === this.active);
    tr.classList.toggle("odd", place % 2 === 1);
    if (tr.row === row) return;
    tr.row = row;
    this.columns.forEach((column, i) => {
      const cell = tr.children[i];
      if (column.later) {
        cell.textContent = "…";
        tr.waits = true;
      } else {
        cell.textContent = visible(column.text(row));
        if (column.mark) cell.dataset.mark = column.mark(row);
      }
    });
  }

  /** Makes a row the active one, brings it into view, and opens it. */
  move(place, open = false) {
    if (!this.rows.length) return;
    this.active = Math.max(0, Math.min(this.rows.length - 1, place));
    const first = this.first(), last = first + this.visibleRows - 1;
    if (this.active < first || this.active > last) {
      const top = this.active < first ? this.active : this.active - this.visibleRows + 1;
      const whole = this.rows.length * ROW;
      this.root.scrollTop = whole <= HIGHEST ? top * ROW : (top / (this.rows.length - this.visibleRows)) * (HIGHEST + ROW - this.root.clientHeight);
    }
    this.draw();
    if (open) this.opened(this.rows[this.active]);
  }

  /** Keys of a list. Those of the whole page are in keys.js. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.grid) return;
    const page = this.visibleRows - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) this.move(this.active + moves[event.key]);
    else if (event.key === "Enter" && this.active >= 0) this.opened(this.rows[this.active]);
    else return;
    event.preventDefault();
  }
}

/** The columns that any page has; rewards by their place, texts as they are opened. */
export function columnsOf(store, runs) {
  const { columns } = store;
  const many = (name) => columns[name].some((value) => value !== columns[name][0]);
  const mark = (place) => (row) => (store.hasFailed(place, row) ? "failed" : "");
  const rewards = store.rewards.map((name, place) => ({
    title: name, key: String(place), width: Math.min(160, Math.max(84, 8 * name.length + 40)), numeric: true, hint: name, mark: mark(place),
    text: (row) => (store.hasFailed(place, row) ? "failed" : shown(store.scores[place][row])),
  }));
  return [
    ...(runs.length > 1 ? [{ title: "run", key: "run", width: 130, text: (row) => runs[columns.run[row]].name }] : []),
    { title: "step", key: "step", width: 78, numeric: true, text: (row) => String(columns.step[row]) },
    ...(many("validation") ? [{ title: "kind", key: "validation", width: 96, text: (row) => (columns.validation[row] ? "validation" : "training") }] : []),
    { title: "prompt", key: "uid", width: 108, text: (row) => store.uid(row) },
    { title: "sample", key: "sample", width: 92, numeric: true, text: (row) => String(columns.sample[row]) },
    { title: "advantage", key: "advantage", width: 128, numeric: true, text: (row) => shown(columns.advantage[row]) },
    ...rewards,
    { title: "kept", key: "keep", width: 80, text: (row) => ["dropped", "kept", "–"][columns.keep[row]] },
    { title: "tokens", key: "tokens", width: 88, numeric: true, text: (row) => shown(columns.tokens[row], 0) },
    { title: "response", later: async (row) => preview(await store.text(row)) },
  ];
}

function preview(text) {
  if (!text) return "(text left out)";
  return (text.response ?? "").slice(0, 300).replace(/\s+/g, " ");
}
