// Stay at the end while an answer grows, unless the reader scrolled up: then say that there is more.

const page = document.scrollingElement;
const thread = document.getElementById("thread");
const pill = document.getElementById("to-end");
const near = 80;
let following = !location.hash; // whoever came for one message stays there
let top = page.scrollTop;

const belowTheFold = () => page.scrollHeight - page.clientHeight - page.scrollTop;

function toEnd() {
  following = true;
  pill.hidden = true;
  page.scrollTo({ top: page.scrollHeight, behavior: "instant" });
  top = page.scrollTop; // the event of it comes later, and is not the reader's
}

// More of an answer; not what the reader has opened in the thread, nor a clock that goes on.
function isGrowth({ target }) {
  if (target.parentElement?.closest(".message__clock")) return false;
  return Boolean(target.parentElement?.closest('[data-status="running"], [data-status="queued"]'));
}

// Or another message at the end; not the earlier ones that somebody asked for.
const lastMessage = () => thread.querySelector(":scope > .message:last-of-type")?.id;
let last = lastMessage();

// Whoever sends something wants to see it. A question that goes out by itself moves nobody.
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.matches("#composer, .edit")) following = true;
});

addEventListener("scroll", () => {
  // Only a move is the reader's: text growing below does not scroll.
  if (page.scrollTop === top) return;
  if (belowTheFold() < near) following = true;
  else if (page.scrollTop < top) following = false;
  if (following) pill.hidden = true;
  top = page.scrollTop;
}, { passive: true });

// Somebody who unfolds something wants to read it where it is. The click comes before more text can; the other way of
// opening it (a word that was searched for in the page) has no click.
thread.addEventListener("click", ({ target }) => {
  if (target.closest("summary")?.parentElement.open === false) following = false;
}, { capture: true });
thread.addEventListener("toggle", ({ target }) => {
  if (target.matches("details[open], figure[data-fold=open]")) following = false;
}, { capture: true });

new MutationObserver((changes) => {
  const isNews = last !== (last = lastMessage()) || changes.some(isGrowth);
  if (following) toEnd();
  else if (isNews) pill.hidden = belowTheFold() < near;
}).observe(thread, { childList: true, characterData: true, subtree: true });

// The window grew or shrank, or a picture arrived: who was at the end stays there.
const stay = () => { if (following) toEnd(); };
addEventListener("resize", stay);
thread.addEventListener("load", stay, { capture: true });

pill.addEventListener("click", toEnd);
if (!location.hash) toEnd();
