// The page of a run that goes on: asks `mrpo report --watch` for its version, and takes a newer one.
import { byId, el } from "./dom.js";

const EVERY = 3000; // milliseconds

/** Reloads when there is something newer, at once or, while `isBusy()`, when asked to. The address keeps what is shown. */
export function follow(version, isBusy) {
  const place = byId("live");
  place.hidden = false;
  const say = (...what) => place.replaceChildren(...what);
  say("live");
  const ask = async () => {
    let newest = version;
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      newest = await answer.text();
    } catch {
      say("not live: mrpo report --watch has ended");
      return setTimeout(ask, 3 * EVERY);
    }
    if (newest === version) say("live");
    else if (!isBusy()) return location.reload();
    else if (!place.querySelector("button")) say(el("button", { type: "button", click: () => location.reload() }, "Newer steps: reload"));
    return setTimeout(ask, EVERY);
  };
  setTimeout(ask, EVERY);
}
