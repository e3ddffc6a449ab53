// One prompt group: its rollouts side by side, each reward's score and weight, and the difference of two responses.
import { byId, el, shown, whole } from "./dom.js";
import { difference } from "./diffs.js";
import { Tokens } from "./tokens.js";

const MORE = { failures: "Causes of failed rewards", details: "What reward functions returned beside scores", messages: "Messages", data_source: "Data source" };

export class Group {
  /** weights(run, step): each reward's, promised; only(uid): shows that prompt alone; closed(), chosen(row) and
   *  coloured(name) are told. */
  constructor(store, runs, { weights, only, closed, chosen, coloured }) {
    Object.assign(this, { store, runs, weights, only, closed, chosen, root: byId("group"), row: -1, rows: [], turn: 0 });
    this.tokens = new Tokens(this.root, coloured);
  }

  get isOpen() {
    return !this.root.hidden;
  }

  async open(row) {
    const same = this.isOpen && this.rows.includes(row);
    this.row = row;
    this.rows = this.store.groupOf(row);
    this.root.hidden = false;
    byId("viewer").classList.add("split");
    const turn = ++this.turn;
    if (same) return this.choose(row);
    const c = this.store.columns;
    const [weights, texts, tokens] = await Promise.all([c.validation[row] ? {} : this.weights(c.run[row], c.step[row]),
      Promise.all(this.rows.map((one) => this.store.text(one))), Promise.all(this.rows.map((one) => this.store.tokens(one)))]);
    if (turn !== this.turn) return;
    this.tokens.open(this.rows, tokens);
    this.draw(texts, weights);
  }

  close() {
    this.turn++;
    this.root.hidden = true;
    byId("viewer").classList.remove("split");
    this.root.replaceChildren();
    this.closed();
  }

  draw(texts, weights) {
    const { store, rows } = this;
    const c = store.columns, first = rows[0];
    this.texts = texts;
    const run = this.runs.length > 1 ? `${this.runs[c.run[first]].name}, ` : "";
    const about = `${run}${c.validation[first] ? "validation of " : ""}step ${c.step[first]}, ${whole(rows.length)} rollouts`;
    const any = texts.find(Boolean);
    this.root.replaceChildren(...[
      el("div", { class: "bar" },
        el("h2", {}, "Prompt ", el("code", {}, store.uid(first))),
        el("span", { class: "note" }, about), el("span", { class: "spring" }),
        el("button", { type: "button", click: () => this.only(store.uid(first).split("-")[0]), title: "All its draws, in every step" }, "Only this prompt"),
        el("button", { type: "button", click: () => this.close(), title: "Esc" }, "Close")),
      el("div", { class: "pair" }, this.text("Prompt", any?.prompt, any?.left_out?.prompt), this.text("Wanted", any?.ground_truth, any?.left_out?.ground_truth)),
      any ? "" : el("p", { class: "note" }, "The page had no room for these texts. They are in the run's folder: see mrpo report --max-texts."),
      el("div", { class: "scroll" }, this.scores(weights)), this.tokens.tools(),
      el("div", { class: "cards", role: "list", "aria-label": "Responses" }, rows.map((row, i) => this.card(row, texts[i]))),
      this.compare()].filter((node) => node !== null));
    this.choose(this.row);
    this.root.scrollTop = 0;
  }

  text(title, text, missing) {
    if (text === undefined) return null;
    const note = missing ? el("span", { class: "note" }, ` ${whole(missing)} characters left out at […]`) : null;
    return el("div", {}, el("h3", {}, title, note), el("pre", { dir: "auto" }, text));
  }

  /** Rewards down, rollouts across: scores, weights, and what became of them. */
  scores(weights) {
    const { store, rows } = this;
    const c = store.columns;
    const head = ["reward", "weight", "effective", "mean", ...rows.map((row) => `sample ${c.sample[row]}`)];
    const line = (name, weight, effective, values, cell, digits) => {
      const known = values.filter(Number.isFinite);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const average = known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
      const mean = Math.abs(average) < 1e-9 * Math.max(Math.abs(low), Math.abs(high)) ? 0 : average; // but for rounding

      return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, weight), el("td", {}, effective), el("td", {}, shown(mean, digits)),
        rows.map((row, i) => {
          const td = el("td", { "data-row": row }, cell(row, values[i]));
          if (high > low && Number.isFinite(values[i])) td.style.setProperty("--share", (values[i] - low) / (high - low));
          return td;
        }));
    };
    const present = store.rewards.map((name, place) => [name, place]).filter(([name, place]) =>
      this.runs[c.run[rows[0]]].rewards.includes(name) || rows.some((row) => !Number.isNaN(store.scores[place][row]) || store.hasFailed(place, row)));
    const body = present.map(([name, place]) =>
      line(name, shown(weights[name]?.weight, 2), shown(weights[name]?.effective, 2), rows.map((row) => store.scores[place][row]),
        (row, value) => (store.hasFailed(place, row) ? el("span", { class: "failed" }, "failed") : shown(value))));
    const plain = (name, column, digits) => line(name, "", "", rows.map((row) => column[row]), (_, value) => shown(value, digits), digits);
    const words = (name, word) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { colspan: 3 }), rows.map((row, i) => el("td", { "data-row": row }, word(row, i))));
    return el("table", { class: "scores" },
      el("caption", {}, "Scores of the group, darker for larger within a line; weight in the sum, and effective weight: the reward's share of the contributions' size in that step"),
      el("thead", {}, el("tr", {}, head.map((title, i) => el("th", { scope: "col", "data-row": i > 3 ? rows[i - 4] : null }, title)))),
      el("tbody", {}, body, plain("advantage", c.advantage, 3), plain("tokens", c.tokens, 0),
        words("kept", (row) => ["dropped", "kept", "–"][c.keep[row]]),
        words("truncated", (row) => (c.truncated[row] ? "truncated" : "no")),
        words("sampled by the weights of step", (_, i) => [...new Set(this.texts[i]?.versions ?? [])].join(" to ") || "–")));
  }

  card(row, text) {
    const c = this.store.columns;
    const advantage = c.advantage[row];
    const title = el("h3", {}, `Sample ${c.sample[row]}`,
      Number.isNaN(advantage) ? null : el("span", { class: advantage > 0 ? "chip up" : advantage < 0 ? "chip down" : "chip" }, `advantage ${shown(advantage)}`),
      c.keep[row] === 0 ? el("span", { class: "chip" }, "dropped") : null, c.truncated[row] ? el("span", { class: "chip" }, "truncated") : null);
    const left = text?.left_out ?? {};
    const unplaced = this.store.hasTokens(row) && !this.tokens.of.has(row);
    const more = Object.entries(MORE).filter(([name]) => text && (name in text || name in left)).map(([name, label]) =>
      el("details", { open: name === "failures" }, el("summary", {}, label),
        el("pre", { dir: "auto" }, name in left ? `${whole(left[name])} characters, left out here: see the run's folder` : JSON.stringify(text[name], null, 1))));
    const node = el("article", { role: "listitem", "data-row": row, tabindex: "-1", click: () => this.choose(row) }, title,
      left.response ? el("p", { class: "note" }, `${whole(left.response)} characters left out at […]`) : null,
      unplaced ? el("p", { class: "note" }, "The page had no room for its tokens: see mrpo report --max-texts.") : null,
      this.tokens.response(row) ?? el("pre", { dir: "auto" }, text ? text.response ?? "(empty)" : "(text left out)"), more);
    return node;
  }

  /** Marks one rollout of the group as the one that is looked at. */
  choose(row) {
    this.row = row;
    for (const node of this.root.querySelectorAll("[data-row]")) node.classList.toggle("chosen", Number(node.dataset.row) === row);
    this.root.querySelector(`article[data-row="${row}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.chosen(row);
  }

  /** To the next rollout of the group, or the one before. */
  step(by) {
    const place = this.rows.indexOf(this.row) + by;
    if (place >= 0 && place < this.rows.length) this.choose(this.rows[place]);
  }

  compare() {
    const c = this.store.columns;
    const choice = (id, label) => el("label", {}, `${label} `, el("select", { id, change: () => this.drawDifference() },
      this.rows.map((row, i) => el("option", { value: i }, `sample ${c.sample[row]}, advantage ${shown(c.advantage[row])}`))));
    return el("section", { class: "compare", "aria-label": "Difference of two responses" }, el("h3", {}, "Difference"),
      el("p", { class: "tools" }, choice("first", "from"), choice("second", "to"),
        el("button", { type: "button", title: "From the chosen one to the best (d)", click: () => this.toBest() }, "Compare with the best")),
      el("div", { id: "difference", "aria-live": "polite" }));
  }

  /** The difference from the chosen response to that of the largest advantage, or from the best to the second best. */
  toBest() {
    if (!this.isOpen || this.rows.length < 2) return;
    const total = (row) => this.store.columns.advantage[row] || this.store.scores.reduce((sum, scores) => sum + (Number.isFinite(scores[row]) ? scores[row] : 0), 0);
    const ranked = [...this.rows].sort((a, b) => total(b) - total(a));
    byId("first").value = this.rows.indexOf(this.row);
    byId("second").value = this.rows.indexOf(ranked[0] === this.row ? ranked[1] : ranked[0]);
    this.drawDifference();
    this.root.querySelector(".compare").scrollIntoView({ block: "nearest" });
  }

  drawDifference() {
    const [a, b] = ["first", "second"].map((id) => this.texts[byId(id).value]?.response ?? "");
    byId("difference").replaceChildren(...difference(a, b));
  }
}
