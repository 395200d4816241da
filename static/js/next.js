// Words that are put into the box: those of a welcome, and a message that comes back instead of being sent.

const composer = document.getElementById("composer");
const add = (text) => document.dispatchEvent(new CustomEvent("composer:add", { detail: text }));

document.addEventListener("click", (event) => {
  const prompt = event.target.closest("[data-prompt]");
  if (!prompt) return;
  event.preventDefault();
  add(prompt.textContent.trim());
});

function takeBack() {
  const withdrawn = composer.querySelector("[data-withdrawn]");
  if (withdrawn) {
    withdrawn.remove();
    add(withdrawn.textContent);
  }
  // Nothing else is written there, so whoever stopped the answer before it goes on with this one.
  if (!composer.elements.text.value) composer.querySelector("[data-held-back] [name=withdraw]")?.click();
}

new MutationObserver(takeBack).observe(composer, { childList: true, subtree: true });
addEventListener("DOMContentLoaded", takeBack);
