// What the page shows: kept behind the # of its address, so that it survives a reload and can be passed on.

const DEFAULTS = { tab: "overview", run: "", kind: "", low: "", high: "", uid: "", keep: "", only: "", text: "", sort: "step", down: "1", open: "", colour: "advantage" };
const RANGE = "range.";

export class State {
  constructor() {
    this.listeners = [];
    this.read();
    addEventListener("hashchange", () => { this.read(); this.tell(Object.keys(DEFAULTS)); });
  }

  read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const [name, value] of Object.entries(DEFAULTS)) this[name] = given.get(name) ?? value;
    this.ranges = {};
    for (const [name, value] of given) if (name.startsWith(RANGE) && value.includes("~")) this.ranges[name.slice(RANGE.length)] = value.split("~", 2);
  }

  /** Changes what is given, writes the address, and says so to all listeners. */
  set(changes) {
    Object.assign(this, changes);
    const kept = Object.entries(DEFAULTS).filter(([name, value]) => this[name] !== value).map(([name]) => [name, this[name]]);
    const ranges = Object.entries(this.ranges).map(([name, ends]) => [RANGE + name, ends.join("~")]);
    history.replaceState(null, "", `#${new URLSearchParams([...kept, ...ranges])}`);
    this.tell(Object.keys(changes));
  }

  /** call(names): after the values of these names have changed. */
  listen(call) {
    this.listeners.push(call);
  }

  tell(names) {
    this.listeners.forEach((call) => call(new Set(names)));
  }

  get isFiltered() {
    return ["run", "kind", "low", "high", "uid", "keep", "only", "text"].some((name) => this[name] !== "") || Object.keys(this.ranges).length > 0;
  }

  /** Everything but the tab, the run and the order as at first. */
  reset() {
    const names = ["kind", "low", "high", "uid", "keep", "only", "text"];
    this.set({ ...Object.fromEntries(names.map((name) => [name, ""])), ranges: {} });
  }
}
