// The page's keys, and the dialog that lists them.
import { byId, el } from "./dom.js";

const KEYS = [
  ["1 … 5", "Overview, Curves, Rollouts, Steps, Config"], ["/", "search in texts"], ["j  k  or  ↓  ↑", "next and previous rollout of the table"],
  ["Page Down, Page Up, Home, End", "a page, the first, the last"], ["Enter", "open the prompt group: its rollouts side by side"],
  ["h  l  or  ←  →", "in an open group: next and previous response"], ["[  ]", "in an open group: previous and next token of the chosen response, where they were recorded"], ["c", "colour tokens by something else"], ["d", "difference from the chosen response to the best"],
  ["s", "sort by the next column; S turns the order round"], ["Esc", "close what is open, or leave the search"], ["t", "light or dark"], ["?", "these keys"],
];

/** actions: {tab(number), search(), move(by), open(), step(by), token(by), colour(), best(), sort(), turn(), close(), theme()}. */
export function listenToKeys(actions) {
  const help = byId("help");
  help.append(el("h2", { id: "help-title" }, "Keys"), el("table", {}, el("tbody", {}, KEYS.map(([key, what]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, key)), el("td", {}, what))))),
    el("form", { method: "dialog" }, el("button", { autofocus: true }, "Close")));
  const show = () => (help.open ? help.close() : help.showModal());
  byId("help-button").addEventListener("click", show);
  const calls = {
    "/": actions.search, "?": show, d: actions.best, c: actions.colour, "[": () => actions.token(-1), "]": () => actions.token(1), s: actions.sort, S: actions.turn, t: actions.theme, Escape: actions.close,
    j: () => actions.move(1), k: () => actions.move(-1), l: () => actions.step(1), h: () => actions.step(-1), ArrowRight: () => actions.step(1), ArrowLeft: () => actions.step(-1),
    ArrowDown: () => actions.move(1), ArrowUp: () => actions.move(-1), Enter: actions.open,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.matches("input, select, textarea");
    if (help.open || (typing && event.key !== "Escape")) return;
    const onControl = event.target.closest("button, summary, a");
    if (onControl && event.key === "Enter") return;
    if (/^[1-5]$/.test(event.key)) actions.tab(Number(event.key) - 1);
    else if (!(event.key in calls) || calls[event.key]() === false) return;
    event.preventDefault();
  });
}
