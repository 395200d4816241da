// Stay at the end while an answer grows, unless the reader scrolled up: then say that there is more.

const page = document.scrollingElement;
const thread = document.getElementById("thread");
const pill = document.getElementById("to-end");
const near = 80;
let following = true;
let top = page.scrollTop;

const belowTheFold = () => page.scrollHeight - page.clientHeight - page.scrollTop;

function toEnd() {
  following = true;
  pill.hidden = true;
  page.scrollTo({ top: page.scrollHeight, behavior: "instant" });
}

function isNewQuestion(node) {
  return node.nodeType === Node.ELEMENT_NODE && node.dataset.role === "user";
}

addEventListener("scroll", () => {
  // Only a move upwards is the reader's: text growing below does not scroll.
  if (belowTheFold() < near) following = true;
  else if (page.scrollTop < top) following = false;
  if (following) pill.hidden = true;
  top = page.scrollTop;
}, { passive: true });

// Somebody who opens the thinking wants to read it where it is.
thread.addEventListener("toggle", () => { following = belowTheFold() < near; }, { capture: true });

new MutationObserver((changes) => {
  const asked = changes.some((change) => [...change.addedNodes].some(isNewQuestion));
  if (asked || following) toEnd();
  else pill.hidden = belowTheFold() < near;
}).observe(thread, { childList: true, characterData: true, subtree: true });

pill.addEventListener("click", toEnd);
if (!location.hash) toEnd();
