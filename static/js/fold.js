// Long code shows its first lines and a button for the rest. What the reader saw being written stays open under their
// eyes. Without this script all of it is shown.

const thread = document.getElementById("thread");
const watched = new Set(); // ids of the answers that were written while this page was open

function label(button) {
  const figure = button.closest("figure");
  const lines = figure.querySelector("pre").textContent.trimEnd().split("\n").length;
  const isOpen = figure.dataset.fold === "open";
  button.setAttribute("aria-expanded", isOpen);
  button.setAttribute("aria-label", isOpen ? "Show fewer lines" : `Show all ${lines} lines`);
}

function addButtons() {
  for (const message of thread.querySelectorAll('[data-status="queued"], [data-status="running"]')) watched.add(message.id);
  for (const figure of thread.querySelectorAll("figure.code.long:not(:has(> .fold-code), .message__open *)")) {
    if (watched.has(figure.closest(".message").id)) figure.dataset.fold ??= "open";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "fold-code";
    figure.append(button);
    label(button);
  }
}

thread.addEventListener("click", ({ target }) => {
  const button = target.closest(".fold-code");
  if (!button) return;
  const figure = button.closest("figure");
  figure.dataset.fold = figure.dataset.fold === "open" ? "closed" : "open";
  label(button);
  // Of what was folded from its far end, the beginning would be out of sight.
  if (figure.getBoundingClientRect().top < 0 && figure.dataset.fold === "closed") figure.scrollIntoView({ block: "center" });
  figure.dispatchEvent(new Event("toggle")); // as a <details> says it: whoever follows the text looks up
});

// A long question opens by itself. What was read of it stays where it is, though the button below it moves.
thread.addEventListener("click", ({ target }) => {
  const fold = target.closest(".message__all")?.parentElement;
  const top = fold?.getBoundingClientRect().top;
  if (fold) requestAnimationFrame(() => {
    scrollBy({ top: fold.getBoundingClientRect().top - top, behavior: "instant" });
    if (top < 0 && !fold.open) fold.scrollIntoView({ block: "center" });
  });
});

new MutationObserver(addButtons).observe(thread, { childList: true, subtree: true });
addButtons();
