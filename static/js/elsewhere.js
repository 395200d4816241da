// What was written at another place meanwhile, on another device or in another tab; never over what is typed here.

const form = document.getElementById("composer");
const box = form.elements.text;
const tell = (text) => document.dispatchEvent(new CustomEvent("composer:kept", { detail: text }));
const files = () => String(new FormData(form).getAll("attachments"));
let [typedHere, sending] = [false, false];

async function look() {
  const before = box.value;
  const mine = () => typedHere || sending || box.value !== before;
  if (mine()) return;
  const there = await fetch(form.dataset.draft).then((answer) => answer.json()).catch(() => null);
  if (!there || mine() || files() !== String(there.attachments)) return;
  form.elements.seen.value = there.seen;
  if (there.text === before) return;
  box.value = there.text;
  tell(there.text);
}

form.addEventListener("input", (event) => { typedHere ||= event.isTrusted; });
document.addEventListener("composer:add", () => { typedHere = true; });
addEventListener("focus", look);
// What was said on leaving may have come later than the page that shows it.
addEventListener("pageshow", ({ persisted }) => {
  if (persisted || performance.getEntriesByType("navigation")[0].type !== "navigate") look();
});

document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => { sending ||= ctx.sourceElement === form; });
document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  if (ctx.sourceElement !== form) return;
  sending = false;
  if (form.elements.client_id.value === ctx.request.body.get("client_id")) return;
  // The draft went with what was sent.
  typedHere = false;
  tell("");
});
