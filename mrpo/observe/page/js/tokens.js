// Single tokens of a group's responses: coloured, read out one by one, and as a table.
import { byId, el, shown, whole } from "./dom.js";

const COLOURS = { advantage: "advantage", logprob: "log-probability", none: "nothing" };
const FLOOR = -6; // log-probability (of 1 in 400) from which on a token has the full colour

export class Tokens {
  /** coloured(name): is told which colour was chosen. */
  constructor(root, coloured) {
    Object.assign(this, { root, coloured, of: new Map(), colour: "advantage", largest: 0, row: -1, place: -1 });
    root.addEventListener("mouseover", (event) => {
      const token = event.target.closest("[data-token]");
      if (token) token.title = this.describe(rowOf(token), Number(token.dataset.token));
    });
    root.addEventListener("click", (event) => {
      const token = event.target.closest("[data-token]");
      if (token) this.choose(rowOf(token), Number(token.dataset.token));
    });
  }

  /** entries: of each row what the store has of its tokens, null where it has nothing. */
  open(rows, entries) {
    this.of = new Map(rows.map((row, i) => [row, entries[i]]).filter(([, entry]) => entry));
    this.largest = [...this.of.values()].flatMap((entry) => entry.advantages).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    this.row = this.place = -1;
  }

  /** The choice of the colour, what it means, and the token that is read out; nothing without tokens. */
  tools() {
    if (!this.of.size) return null;
    const choice = el("select", { id: "colour", title: "c", change: (event) => this.coloured(event.target.value) },
      Object.entries(COLOURS).map(([name, label]) => el("option", { value: name, selected: name === this.colour }, label)));
    return el("div", { class: "tools", id: "token-tools" }, el("label", {}, "Tokens coloured by ", choice),
      el("span", { id: "legend" }, this.legend()), el("output", { id: "token", "aria-live": "polite" }, "Point at a token, or step through them with [ and ]"));
  }

  legend() {
    if (this.colour === "none") return [];
    const [low, high] = this.colour === "advantage" ? [shown(-this.largest), shown(this.largest)] : ["0, certain", `${shown(FLOOR, 0)} or less`];
    return [low, el("span", { class: `scale ${this.colour}`, "aria-hidden": "true" }), high,
      el("span", { class: "t out" }, "not in the loss"), this.colour === "advantage" ? el("span", { class: "t minus" }, "negative") : null];
  }

  /** Takes another colour, in all cards that are open. */
  paint(colour) {
    this.colour = colour in COLOURS ? colour : "advantage";
    if (!byId("colour")) return;
    byId("colour").value = this.colour;
    byId("legend").replaceChildren(...this.legend().filter(Boolean));
    for (const pre of this.root.querySelectorAll("pre.tokens")) pre.replaceChildren(...this.spans(rowOf(pre)));
    if (this.row >= 0) this.choose(this.row, this.place);
  }

  next() {
    const names = Object.keys(COLOURS);
    this.coloured(names[(names.indexOf(this.colour) + 1) % names.length]);
  }

  /** A response as its tokens, with a summary in words and a table; null if it has none. */
  response(row) {
    const entry = this.of.get(row);
    if (!entry) return null;
    const table = el("details", { class: "values" }, el("summary", {}, "Values of each token"));
    table.addEventListener("toggle", () => { if (table.open && !table.querySelector("table")) table.append(this.table(entry)); });
    return [el("p", { class: "note" }, summary(entry)), el("pre", { class: "tokens", dir: "auto" }, this.spans(row)), table];
  }

  spans(row) {
    const entry = this.of.get(row);
    return entry.pieces.map((piece, i) => {
      const value = this.colour === "none" || !entry.in_loss[i] ? 0 : this.colour === "advantage" ? entry.advantages[i] : entry.log_probs[i];
      const share = this.colour === "advantage" ? Math.abs(value) / (this.largest || 1) : Math.min(1, value / FLOOR);
      const kind = !entry.in_loss[i] ? "t out" : this.colour === "advantage" && value < 0 ? "t minus" : "t";
      const span = el("span", { class: kind, "data-token": i }, this.colour === "none" ? piece : piece.replace(/\n/g, "↵\n"));
      if (share > 0) span.style.setProperty("--share", share.toFixed(3));
      return span;
    });
  }

  table(entry) {
    const cells = (i) => [quoted(entry.pieces[i]), shown(entry.log_probs[i]), shown(Math.exp(entry.log_probs[i])), shown(entry.advantages[i]), entry.in_loss[i] ? "yes" : "no"];
    return el("div", { class: "scroll" }, el("table", { class: "scores" }, el("caption", {}, "Tokens of the response"),
      el("thead", {}, el("tr", {}, ["", "token", "log-probability", "probability", "advantage", "in the loss"].map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, entry.pieces.map((_, i) => el("tr", {}, el("th", { scope: "row" }, whole(i + 1)), cells(i).map((cell) => el("td", {}, cell)))))));
  }

  describe(row, place) {
    const { pieces, log_probs, advantages, in_loss } = this.of.get(row);
    const used = in_loss[place] ? `advantage ${shown(advantages[place])}` : "not in the loss";
    return `token ${whole(place + 1)} of ${whole(pieces.length)}, ${quoted(pieces[place])}: log-probability ${shown(log_probs[place])}, probability ${shown(Math.exp(log_probs[place]))}, ${used}`;
  }

  /** Marks a token and reads it out. */
  choose(row, place) {
    Object.assign(this, { row, place });
    for (const node of this.root.querySelectorAll("[data-token].at")) node.classList.remove("at");
    const node = this.root.querySelector(`article[data-row="${row}"] [data-token="${place}"]`);
    node.classList.add("at");
    node.scrollIntoView({ block: "nearest", inline: "nearest" });
    byId("token").textContent = this.describe(row, place);
  }

  /** To the next token of the row's response, or the one before; false if it has none. */
  step(row, by) {
    const entry = this.of.get(row);
    if (!entry?.pieces.length) return false;
    const place = this.row === row ? this.place + by : 0;
    this.choose(row, Math.max(0, Math.min(entry.pieces.length - 1, place)));
    return true;
  }
}

const rowOf = (node) => Number(node.closest("article").dataset.row);

const quoted = (piece) => (piece === "" ? "(a part of a character)" : `“${piece.replace(/\n/g, "↵")}”`);

/** What the colours say, in words. */
function summary({ pieces, log_probs, advantages, in_loss, left_out }) {
  const used = pieces.map((_, i) => i).filter((i) => in_loss[i]);
  const text = [`${whole(pieces.length + (left_out ?? 0))} tokens, ${whole(used.length)} in the loss`];
  if (left_out) text[0] += ` of the first ${whole(pieces.length)}; those after them are in the run's folder`;
  if (used.length) {
    const least = used.reduce((a, b) => (log_probs[b] < log_probs[a] ? b : a));
    const [low, high] = used.reduce(([a, b], i) => [Math.min(a, advantages[i]), Math.max(b, advantages[i])], [Infinity, -Infinity]);
    text.push(`advantage ${low === high ? shown(low) : `${shown(low)} to ${shown(high)}`}`);
    text.push(`log-probability ${shown(used.reduce((sum, i) => sum + log_probs[i], 0) / used.length)} on average, least ${shown(log_probs[least])} at ${quoted(pieces[least])}`);
  }
  return text.join("; ");
}
