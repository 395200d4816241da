// Whoever goes by keyboard goes on where they were. What they pressed may be switched off while it is sent, or leave the
// page with what takes its place: then they are at the box for the next message, with nothing scrolled.

const typesByTouch = matchMedia("(hover: none) and (pointer: coarse)");
const focused = () => (document.activeElement === document.body ? null : document.activeElement);
let held = null;

// On a phone the box would bring up the keyboard.
const home = () =>
  document.querySelector("#aside a") ??
  document.querySelector(typesByTouch.matches ? "#composer-actions button" : "#composer-text");

function hold() {
  held = focused() ?? held;
}

// A link that has brought in the last of the earlier messages is gone: then it is the message that was the first.
function follow(selector) {
  const message = selector && document.querySelector(selector);
  if (message) message.tabIndex = -1;
  return message ?? home();
}

function goOn() {
  queueMicrotask(() => {
    // Code may be focused to be scrolled, and is replaced while it is written: nobody has left it.
    if (!held || focused() || held.closest(".message__body")) return;
    const stays = held.isConnected && held.checkVisibility();
    (stays ? held : follow(held.dataset.keep))?.focus({ preventScroll: true });
  });
}

// A press on nothing in particular is meant to leave.
addEventListener("pointerdown", () => { held = null; }, { capture: true });
for (const before of ["htmx:config:request", "htmx:before:swap"]) document.addEventListener(before, hold);
for (const after of ["htmx:after:swap", "htmx:finally:request"]) document.addEventListener(after, goOn);
