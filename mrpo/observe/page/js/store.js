// The rollouts of the page: columns in typed arrays, texts opened a block at a time.
import { byId } from "./dom.js";

const CACHED = 48; // opened blocks that are kept, of up to 256 rollouts each

const ARRAYS = { Float64Array, Int32Array, Uint32Array, Uint8Array };

/** What base64 text stands for, inflated: bytes. */
async function inflate(text) {
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A column as mrpo.observe.page.columns packs it. */
export async function unpack(column) {
  return new ARRAYS[column.type]((await inflate(column.data)).buffer);
}

export class Store {
  /** Opens all columns. */
  static async open(given) {
    const store = new Store();
    const entries = async (object) =>
      Object.fromEntries(await Promise.all(Object.entries(object).map(async ([name, c]) => [name, await unpack(c)])));
    store.rows = given.rows;
    store.rewards = given.rewards;
    store.uids = given.uids;
    store.columns = await entries(given.columns);
    store.scores = await Promise.all(given.scores.map(unpack));
    store.failed = await entries(given.failed);
    store.starts = await unpack(given.starts);
    store.shortened = given.shortened;
    store.withoutText = given.withoutText;
    store.opened = new Map();
    store.tokenRows = await unpack(given.tokenRows);
    store.tokenStarts = await unpack(given.tokenStarts);
    return store;
  }

  /** A number of each rollout: "advantage", "tokens", or a reward's place. */
  values(name) {
    return name in this.columns ? this.columns[name] : this.scores[Number(name)];
  }

  hasFailed(place, row) {
    return place in this.failed && this.failed[place][row] === 1;
  }

  uid(row) {
    return this.uids[this.columns.uid[row]];
  }

  /** Rows of the same prompt group, in order of their samples. */
  groupOf(row) {
    const { run, step, validation, uid, sample } = this.columns;
    const rows = [];
    for (let i = 0; i < this.rows; i++) {
      if (uid[i] === uid[row] && step[i] === step[row] && validation[i] === validation[row] && run[i] === run[row]) rows.push(i);
    }
    return rows.sort((a, b) => sample[a] - sample[b]);
  }

  /** What names a rollout whatever else is on the page. */
  key(row) {
    const { run, step, validation, sample } = this.columns;
    return [run[row], validation[row], step[row], sample[row], this.uid(row)].join(".");
  }

  /** The row of a key; -1 if there is none. */
  find(key) {
    const [run, validation, step, sample] = key.split(".", 4).map(Number);
    const place = this.uids.indexOf(key.split(".").slice(4).join("."));
    const c = this.columns;
    for (let i = 0; place >= 0 && i < this.rows; i++) {
      if (c.uid[i] === place && c.step[i] === step && c.sample[i] === sample && c.validation[i] === validation && c.run[i] === run) return i;
    }
    return -1;
  }

  hasTokens(row) {
    return this.tokenRows[lastUpTo(this.tokenRows, row)] === row;
  }

  /** A block as JSON; null if the page has no room for it. Waits for the page's end to be read, where the blocks are. */
  async json(id) {
    if (!byId(id) && document.readyState === "loading") {
      await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
    }
    const node = byId(id);
    return node && new TextDecoder().decode(await inflate(node.textContent));
  }

  /** A block's entries, opened once; null if they were left out. */
  entries(id) {
    const opening = this.opened.get(id) ?? this.json(id).then((json) => json && JSON.parse(json));
    this.opened.delete(id); // to the end: the oldest one goes first
    this.opened.set(id, opening);
    if (this.opened.size > CACHED) this.opened.delete(this.opened.keys().next().value);
    return opening;
  }

  /** The texts of one rollout; null if they were left out. */
  async text(row) {
    const block = lastUpTo(this.starts, row);
    const entries = await this.entries(`block-${block}`);
    if (!entries) return null;
    const entry = entries[row - this.starts[block]];
    return typeof entry.prompt === "number" ? { ...entry, prompt: entries[entry.prompt].prompt } : entry;
  }

  /** {pieces, log_probs, advantages, in_loss, left_out} of one rollout's tokens; null if they weren't recorded, or left out. */
  async tokens(row) {
    if (!this.hasTokens(row)) return null;
    const place = lastUpTo(this.tokenRows, row), block = lastUpTo(this.tokenStarts, place);
    const entries = await this.entries(`tokens-${block}`);
    return entries && entries[place - this.tokenStarts[block]];
  }
}

/** The place of the last of these ascending numbers that isn't above the value; 0 if all are. */
function lastUpTo(numbers, value) {
  let low = 0, high = numbers.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (numbers[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}
