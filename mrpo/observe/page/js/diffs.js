// What differs between two texts, word by word. jsdiff compares; here it becomes elements.
import { el } from "./dom.js";

const PATIENCE = 400; // milliseconds; beyond them lines are compared instead of words

/** Elements for both texts as one: what only the first has is struck through, what only the second has is underlined. */
export function difference(before, after) {
  const parts = Diff.diffWordsWithSpace(before, after, { timeout: PATIENCE }) ?? Diff.diffLines(before, after, { timeout: PATIENCE });
  if (!parts) return [el("p", { class: "note" }, "The two are too long and too different to be compared here.")];
  const words = (kind) => parts.filter((part) => part[kind]).reduce((sum, part) => sum + part.value.split(/\s+/).filter(Boolean).length, 0);
  const same = !parts.some((part) => part.added || part.removed);
  const note = same ? "No difference." : `${words("removed")} words only in the first, ${words("added")} only in the second.`;
  const text = parts.map((part) => (part.added ? el("ins", {}, part.value) : part.removed ? el("del", {}, part.value) : el("span", {}, part.value)));
  return [el("p", { class: "note" }, note), el("pre", { class: "diff", dir: "auto" }, text)];
}
