// Which rollouts are shown, and in which order. Plain loops over typed arrays: 100,000 rows take milliseconds.

/** Rows that meet every filter, in the given order.
 *  filters: run, kind, low, high, uid, keep, only (texts, "" for any); ranges: {name: [low, high]}; hits: null or a mark a row. */
export function select(store, filters, order) {
  const { columns, rows } = store;
  const mask = new Uint8Array(rows).fill(1);
  const equal = (column, wanted) => {
    for (let i = 0; i < rows; i++) if (column[i] !== wanted) mask[i] = 0;
  };
  const within = (column, low, high) => { // a row without the number isn't within any range
    for (let i = 0; i < rows; i++) if (!(column[i] >= low && column[i] <= high)) mask[i] = 0;
  };
  if (filters.run !== "") equal(columns.run, Number(filters.run));
  if (filters.kind !== "") equal(columns.validation, Number(filters.kind));
  if (filters.keep !== "") equal(columns.keep, Number(filters.keep));
  const [low, high] = ends(filters.low, filters.high);
  if (low !== -Infinity || high !== Infinity) within(columns.step, low, high);
  for (const [name, range] of Object.entries(filters.ranges)) within(store.values(name), ...ends(...range));
  if (filters.uid !== "") {
    const wanted = filters.uid.toLowerCase();
    const known = Uint8Array.from(store.uids, (uid) => (uid.toLowerCase().includes(wanted) ? 1 : 0));
    for (let i = 0; i < rows; i++) mask[i] &= known[columns.uid[i]];
  }
  if (filters.only === "truncated") equal(columns.truncated, 1);
  if (filters.only === "tokens") keepOnly(mask, marksOf(rows, store.tokenRows));
  if (filters.only === "failed") keepOnly(mask, anyOf(rows, Object.values(store.failed), (value) => value === 1));
  if (filters.only === "unscored") keepOnly(mask, anyOf(rows, store.scores, (value) => !Number.isNaN(value)).map((any) => 1 - any));
  if (filters.hits) keepOnly(mask, filters.hits);
  const found = new Uint32Array(rows);
  let count = 0;
  for (let i = 0; i < rows; i++) if (mask[order[i]]) found[count++] = order[i];
  return found.subarray(0, count);
}

/** Both ends of a range as numbers; an empty one is open. */
function ends(low, high) {
  return [low === "" || Number.isNaN(Number(low)) ? -Infinity : Number(low), high === "" || Number.isNaN(Number(high)) ? Infinity : Number(high)];
}

function anyOf(rows, columns, test) {
  const marks = new Uint8Array(rows);
  for (const column of columns) for (let i = 0; i < rows; i++) if (test(column[i])) marks[i] = 1;
  return marks;
}

function marksOf(rows, chosen) {
  const marks = new Uint8Array(rows);
  for (const row of chosen) marks[row] = 1;
  return marks;
}

function keepOnly(mask, marks) {
  for (let i = 0; i < mask.length; i++) mask[i] &= marks[i];
}

const orders = new Map();

/** All rows by a column, rows without a number last in both directions. Sorted once for each column. */
export function ordered(store, name, down) {
  const key = `${name} ${down}`;
  if (!orders.has(key)) orders.set(key, sorted(store, name, down));
  return orders.get(key);
}

function sorted(store, name, down) {
  const values = store.values(name);
  const all = Uint32Array.from({ length: store.rows }, (_, i) => i);
  const known = all.filter((i) => !Number.isNaN(values[i]));
  const rest = all.filter((i) => Number.isNaN(values[i]));
  known.sort(down ? (a, b) => (values[a] < values[b] ? 1 : values[a] > values[b] ? -1 : a - b) : (a, b) => (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : a - b));
  const order = new Uint32Array(store.rows);
  order.set(known);
  order.set(rest, known.length);
  return order;
}
