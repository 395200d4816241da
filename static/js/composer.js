// Enter sends, Shift-Enter breaks the line, Esc stops the answer. Listeners sit on the document,
// because the composer's parts are replaced after every turn.

const box = () => document.getElementById("composer-text");
const clientId = () => document.getElementById("composer-client")?.value;
const growsByItself = CSS.supports("field-sizing", "content");
// On a phone's keyboard Enter is the only way to break a line.
const typesByTouch = matchMedia("(hover: none) and (pointer: coarse)");

function fit() {
  if (growsByItself) return;
  box().style.blockSize = "auto";
  box().style.blockSize = `${box().scrollHeight}px`;
}

function write(text) {
  box().value = text;
  box().focus();
  fit();
}

document.addEventListener("keydown", (event) => {
  const composing = event.isComposing || event.keyCode === 229; // Safari ends the composition before Enter
  if (composing || event.defaultPrevented) return;
  if (event.key === "Enter" && event.target === box() && !event.shiftKey && !typesByTouch.matches) {
    event.preventDefault();
    if (box().value.trim()) box().form.requestSubmit();
  }
  if (event.key === "Escape" && !event.target.closest("select") && !document.querySelector(":popover-open")) {
    document.querySelector("#composer-actions [name=stop]")?.click();
  }
});

document.addEventListener("input", (event) => event.target === box() && fit());

document.addEventListener("click", (event) => {
  const prompt = event.target.closest("[data-prompt]");
  if (!prompt) return;
  event.preventDefault();
  write(prompt.textContent.trim());
});

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id === "composer") document.getElementById("composer-error").textContent = "";
});

// The text leaves the box only when the server took it, and it says so by a new client id.
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id !== "composer" || ctx.hx?.redirect) return;
  const error = document.getElementById("composer-error");
  const sent = ctx.request.body.get("text");
  if (clientId() !== ctx.request.body.get("client_id")) {
    write(box().value.startsWith(sent) ? box().value.slice(sent.length) : box().value);
  } else if (!error.textContent.trim()) {
    error.textContent = "That could not be sent. Your message is still here: please try again.";
  }
});
