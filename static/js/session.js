// A page may be older than its session, or than its chat. Whoever signs in again in another tab has another token against
// forged requests: what counts is in the cookie at the moment of sending.

const { csrfCookie } = document.body.dataset;
const error = document.querySelector("#composer-error, #requests-error");
const field = "csrfmiddlewaretoken";
const token = () => document.cookie.split("; ").find((each) => each.startsWith(`${csrfCookie}=`))?.slice(csrfCookie.length + 1);
const told = () => error?.querySelector("[data-old-page]");

// Every form on its way out, by htmx, by fetch and by the browser itself.
document.addEventListener("formdata", ({ formData }) => {
  if (formData.has(field) && token()) formData.set(field, token());
});

document.addEventListener("htmx:config:request", ({ detail: { ctx: { request } } }) => {
  if (!token()) return;
  request.headers["X-CSRFToken"] = token();
  if (request.body?.has?.(field)) request.body.set(field, token());
});

document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (ctx.response?.status < 400) told()?.remove();
});

// Back from the tab where they have signed in.
addEventListener("focus", () => { if (told()) document.body.dispatchEvent(new CustomEvent("foresee")); });

// An answer whose chat was deleted goes on no more, whether its stream was being opened or opened again.
function end(stream) {
  stream.closest(".message").dataset.status = "interrupted";
}

document.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
  if (ctx.response.status === 404 && ctx.sourceElement.id?.startsWith("stream-")) end(ctx.sourceElement);
});

document.addEventListener("htmx:sse:error", ({ target, detail }) => {
  if (detail.status !== 404) return;
  end(target);
  target.remove();
  document.body.dispatchEvent(new CustomEvent("foresee"));
});
