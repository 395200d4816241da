// A page that comes back by the browser's button, or that has not heard that its message arrived, has the client id of
// what was sent. The same text may be sent again with it, which does nothing twice. Another text is another message.

const form = document.getElementById("composer");
const error = document.getElementById("composer-error");
const isComposer = (ctx) => ctx.sourceElement === form;
let [tried, sending] = [null, false];

form.addEventListener("composer:was-sent", (event) => {
  const { text, id } = event.detail;
  if (text === tried) event.preventDefault();
  if (text === tried || sending) return;
  form.elements.client_id.value = id;
  error.textContent = form.dataset.wasSent;
});

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => { sending ||= isComposer(ctx); });
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (!isComposer(ctx)) return;
  sending = false;
  tried = ctx.response?.status === 409 ? null : ctx.request.body.get("text");
  // Refused, perhaps for its client id: asking to keep the text brings a new one.
  if (tried === null) form.dispatchEvent(new Event("input"));
});

// Whoever was led to another page has left Send switched off.
addEventListener("pageshow", ({ persisted }) => { if (persisted) form.elements.send.disabled = false; });
