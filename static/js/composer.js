// Enter sends, Shift-Enter breaks the line, Esc stops the answer, "/" comes here. Listeners sit on the document,
// because the composer's parts are replaced after every turn.

const box = () => document.getElementById("composer-text");
const clientId = () => document.getElementById("composer-client")?.value;
const growsByItself = CSS.supports("field-sizing", "content");
// On a phone's keyboard Enter is the only way to break a line.
const typesByTouch = matchMedia("(hover: none) and (pointer: coarse)");
const typing = "input, textarea, select, [contenteditable], dialog[open], :popover-open";

function fit() {
  if (growsByItself) return;
  box().style.blockSize = "auto";
  box().style.blockSize = `${box().scrollHeight}px`;
}

function write(text) {
  box().value = text;
  if (!typesByTouch.matches) box().focus();
  box().dispatchEvent(new Event("input", { bubbles: true }));
}

document.addEventListener("keydown", (event) => {
  const composing = event.isComposing || event.keyCode === 229; // Safari ends the composition before Enter
  if (composing || event.defaultPrevented) return;
  if (event.key === "Enter" && event.target === box() && !event.shiftKey && !typesByTouch.matches) {
    event.preventDefault();
    const files = document.querySelector("#composer-files :is([name=attachments], [data-uploading])");
    if (!event.repeat && (box().value.trim() || files)) box().form.requestSubmit(); // else the key that led here
  }
  if (event.key === "/" && !event.target.closest(typing) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    box().focus();
  }
  if (event.key === "Escape" && !event.target.closest("select") && !document.querySelector(":popover-open")) {
    document.querySelector("#composer-actions [name=stop]")?.click();
  }
});

document.addEventListener("input", (event) => event.target === box() && fit());
fit();
// Text from elsewhere goes above what stands in the box already.
document.addEventListener("composer:add", ({ detail }) => write([detail, box().value].filter(Boolean).join("\n\n")));

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id !== "composer") return;
  for (const words of ["composer-error", "composer-note"]) document.getElementById(words).textContent = "";
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
