// Looks for text in every rollout: opens the blocks in turn, and says how far it is.

/** A mark for each row whose prompt, response, wanted answer or causes of failure have the text, whatever the case.
 *  progress(share): after each block. Returns null if `signal` was aborted meanwhile. */
export async function search(store, text, progress, signal) {
  const wanted = text.toLowerCase();
  const plain = /^[ !#-[\]-~]+$/.test(wanted); // stands in JSON as it is
  const hits = new Uint8Array(store.rows);
  let rested = performance.now();
  for (let block = 0; block < store.starts.length; block++) {
    const json = await store.json(`block-${block}`);
    if (signal.aborted) return null;
    if (json && (!plain || json.toLowerCase().includes(wanted))) mark(JSON.parse(json), wanted, hits, store.starts[block]);
    if (performance.now() - rested > 40) { // lets the browser draw and take keys
      progress((block + 1) / store.starts.length, hits);
      await new Promise((done) => setTimeout(done));
      rested = performance.now();
    }
  }
  return signal.aborted ? null : hits;
}

function mark(entries, wanted, hits, first) {
  const has = (value) => value !== undefined && (typeof value === "string" ? value : JSON.stringify(value)).toLowerCase().includes(wanted);
  const prompts = new Map(); // a prompt that others share is looked at once
  entries.forEach((entry, place) => {
    const holder = typeof entry.prompt === "number" ? entry.prompt : place;
    if (!prompts.has(holder)) prompts.set(holder, has(entries[holder].prompt));
    const found = prompts.get(holder) || has(entry.response) || has(entry.ground_truth) || has(entry.failures) || has(entry.messages);
    if (found) hits[first + place] = 1;
  });
}
