"use strict";
// Keeps the page up to date: asks for it again, and puts in what has changed. Nothing here builds HTML.
const PARTS = ["status", "address", "account", "bridges", "technical"];
const EVERY = 2000;
const PATIENCE = 10000;

function put(id, fresh) {
  const old = document.getElementById(id);
  const next = fresh.getElementById(id);
  if (!old || !next || old.dataset.seen === next.outerHTML) return;
  const seen = next.outerHTML;
  if (old.dataset.seen !== undefined || old.outerHTML !== seen) {
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.className = next.className;
    old.hidden = next.hidden;
    old.replaceChildren(...next.childNodes);
    if (focused) document.getElementById(focused)?.focus();
  }
  old.dataset.seen = seen;
}

function lost(is) {
  const note = document.getElementById("lost");
  note.hidden = !is;
  document.body.classList.toggle("gone", is); // what is no longer known is not shown as if it were
  if (is) document.title = `${note.textContent} – ptproxy`;
}

function offerCopy() {
  const button = document.getElementById("copy");
  if (button) button.hidden = !navigator.clipboard;
}

async function look() {
  try {
    const language = document.documentElement.lang;
    const answer = await fetch(`?lang=${language}`, {
      credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    for (const id of PARTS) put(id, fresh);
    offerCopy();
    lost(false);
  } catch {
    lost(true);
  }
  setTimeout(look, EVERY);
}

document.addEventListener("click", async (event) => {
  if (event.target.id !== "copy") return;
  const field = document.getElementById("socks");
  try {
    await navigator.clipboard.writeText(field.value);
    event.target.textContent = event.target.dataset.done;
  } catch {
    field.select(); // to be copied by hand
  }
});

offerCopy();
setTimeout(look, EVERY);
