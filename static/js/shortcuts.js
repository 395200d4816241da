// Alt+Shift and a letter, which neither browsers nor screen readers use for themselves; and / and ? on their own, where
// nobody is typing and the person has not turned them off (templates/chat/_shortcuts.html has the words).

const sheet = document.getElementById("shortcuts");
const press = (selector) => document.querySelector(selector)?.click();
const pressLast = (selector) => [...document.querySelectorAll(selector)].at(-1)?.click();

const openSheet = () => sheet.open || sheet.showModal();

function search() {
  const box = document.getElementById("search");
  if (!box.checkVisibility()) press(".topbar__drawer");
  box.focus();
  box.select();
}

function step(by) {
  const links = [...document.querySelectorAll(".sidebar__row .sidebar__link")];
  links[links.findIndex((link) => link.ariaCurrent === "page") + by]?.click();
}

const actions = {
  n: () => press("#new-chat"),
  m: () => document.getElementById("composer-text")?.focus(),
  s: search,
  c: () => pressLast('[data-role="assistant"] .message__tools [data-copy]'),
  e: () => pressLast('[data-role="user"] .message__tools a'),
  j: () => step(1),
  u: () => step(-1),
  l: () => press(".topbar__drawer"),
  k: openSheet,
};
const alone = { "/": search, "?": openSheet };

function actionOf(event) {
  if (event.ctrlKey || event.metaKey || event.getModifierState("AltGraph")) return null;
  // With Option a Mac types another character: then the place of the key has to do.
  const letter = /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : event.code.replace("Key", "").toLowerCase();
  if (event.altKey) return event.shiftKey ? actions[letter] : null;
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  return "singleKeys" in sheet.dataset && !typing ? alone[event.key] : null;
}

document.addEventListener("keydown", (event) => {
  const action = !event.isComposing && !event.defaultPrevented && !event.repeat && actionOf(event);
  if (!action) return;
  event.preventDefault();
  action();
});

// Otherwise the same key would also stop the answer.
sheet.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault();
  sheet.close();
});

document.getElementById("shortcuts-link").addEventListener("click", (event) => void (event.preventDefault(), openSheet()));
