// What leaves the list of attached files: what is dismissed, and what the server has taken along with a message.

const form = document.getElementById("composer");
const list = document.querySelector("#composer-files ul");

list.addEventListener("click", ({ target }) => target.closest("[data-dismiss]")?.closest("li").remove());

document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  const sent = ctx.request?.body;
  if (ctx.sourceElement !== form || form.elements.client_id.value === sent.get("client_id")) return;
  for (const id of sent.getAll("attachments")) document.getElementById(`file-${id}`)?.remove();
  for (const refused of list.querySelectorAll(".file--refused")) refused.remove();
});

// Text that was pasted as a file, back into the box.
list.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-into-message]");
  if (!button) return;
  button.disabled = true;
  const answer = await fetch(button.dataset.intoMessage).catch(() => null);
  button.disabled = false;
  if (!answer?.ok) return;
  document.dispatchEvent(new CustomEvent("composer:add", { detail: await answer.text() }));
  button.closest("li").querySelector(".file__remove").click();
});
