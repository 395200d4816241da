// A stream brings the text of an answer, not the element around it: what arrives makes a queued answer a running one.
// The tab says the same as the page, in its title and its icon; and what ended while nobody looked, until somebody does.

const thread = document.getElementById("thread");
const icon = document.querySelector("link[rel=icon]");
const idle = icon.href;
const words = { running: "● Answering… ", finished: "✓ ", failed: "✗ " };
const reading = document.getElementById("reading");
let unread = "unread" in (reading?.dataset ?? {});
let state = "";

const live = () => thread.querySelector('[data-status="queued"], [data-status="running"]');
const plain = () => Object.values(words).reduce((title, mark) => title.replace(mark, ""), document.title);

function show(next) {
  state = next;
  icon.href = icon.dataset[state] ?? idle;
  const title = (words[state] ?? "") + plain();
  if (document.title !== title) document.title = title;
}

function outcome() {
  const status = [...thread.querySelectorAll('[data-role="assistant"]')].at(-1)?.dataset.status;
  return status === "failed" || status === "interrupted" ? "failed" : "finished";
}

function see() {
  if (document.hidden || live()) return;
  show("");
  if (unread) fetch(reading.action, { method: "POST", body: new FormData(reading), keepalive: true }).catch(() => {});
  unread = false;
}

function look() {
  if (live()) {
    if (state !== "running") show("running");
  } else if (state === "running") {
    show(outcome());
    unread = Boolean(reading);
    see();
  }
}

new MutationObserver((changes) => {
  for (const { target, type } of changes) {
    const queued = type === "childList" ? target.parentElement?.closest('[data-status="queued"]') : null;
    if (queued?.querySelector("[id^=stream-]")) queued.dataset.status = "running";
  }
  look();
}).observe(thread, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-status"] });

// A conversation gets its title while it is open.
new MutationObserver(() => show(state)).observe(document.querySelector("title"), { childList: true });

document.addEventListener("visibilitychange", see);
look();
see();
