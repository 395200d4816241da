// What the message costs is asked again when files come or go, and when something was sent or has ended; and the cheaper
// model is chosen.

const form = document.getElementById("composer");
const model = document.getElementById("composer-model");
const again = () => setTimeout(() => document.body.dispatchEvent(new CustomEvent("foresee")));

document.addEventListener("click", ({ target }) => {
  const cheaper = target.closest("[data-choose-model]");
  if (!cheaper) return;
  model.value = cheaper.dataset.chooseModel;
  model.dispatchEvent(new Event("change", { bubbles: true }));
  form.elements.text.focus(); // the button goes away
});

// A file in the list; and what is left of the budget, which comes anew with the end of every answer.
for (const place of document.querySelectorAll("#composer-files ul, .dock__lines")) {
  new MutationObserver(again).observe(place, { childList: true });
}

// Text comes back into the box, or leaves it, without a key.
document.addEventListener("composer:add", again);
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (ctx.request?.method === "POST" && ctx.sourceElement.id !== "foresight") again();
});
