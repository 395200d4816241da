// What is typed is kept on the server, so that it survives the browser, and so that the browser keeps nothing of it.

const form = document.getElementById("composer");
const [state, box] = [document.getElementById("draft-state"), form.elements.text];
const [often, seldom, rarely] = [600, 3000, 30_000]; // milliseconds
let [kept, edition, pause, since, timer, saving, going] = [content(box.defaultValue), Date.now(), often, 0, 0];

function content(text = box.value) {
  const files = new FormData(form).getAll("attachments");
  return String(new URLSearchParams([["text", text], ...files.map((id) => ["attachments", id])]));
}

function soon() {
  since ||= Date.now();
  clearTimeout(timer);
  timer = setTimeout(keep, Date.now() - since > seldom ? 0 : pause);
}

async function keep({ leaving = false } = {}) {
  const [now, text] = [content(), box.value];
  if (now === kept) return void (state.textContent = "");
  if (saving && !leaving) return;
  if (box.value.length > form.dataset.longest) return void (state.textContent = form.dataset.tooLong);
  const body = new URLSearchParams(now);
  for (const name of ["client_id", "seen", "csrfmiddlewaretoken"]) body.set(name, new FormData(form).get(name));
  body.set("edition", ++edition); // what is said on leaving may overtake what was said before
  [saving, since] = [true, 0];
  const keepalive = leaving && now.length < 60_000; // browsers carry no more over the end of a page
  const headers = { Accept: "application/json", "X-Person": document.body.dataset.person };
  const request = { method: "POST", body, headers, keepalive, redirect: "manual", signal: AbortSignal.timeout(10_000) };
  const answer = await fetch(form.dataset.draft, request).catch(() => null);
  saving = false;
  const sent = new CustomEvent("composer:was-sent", { cancelable: true, detail: { text, id: answer?.headers.get("X-Client-Id") } });
  if (answer?.status === 204 || (answer?.status === 205 && !form.dispatchEvent(sent))) [kept, pause] = [now, often];
  else pause = answer?.ok ? often : Math.min(rarely, 2 * Math.max(pause, seldom / 2));
  const saved = answer?.ok ? "" : "Not saved"; // whoever asks for the price is told why
  state.textContent = saved && !(answer?.status < 500) ? `${saved}, trying again` : saved;
  if (content() !== kept && answer?.status !== 404) soon();
}

const leave = () => keep({ leaving: true });
new MutationObserver(soon).observe(form, { childList: true, subtree: true });
form.addEventListener("input", soon);
for (const moment of ["beforeunload", "pagehide"]) addEventListener(moment, leave);
document.addEventListener("visibilitychange", () => document.hidden && leave());
// Whoever has signed out cannot keep anything any more.
document.addEventListener("submit", async (event) => {
  if (event.defaultPrevented || event.target === form || content() === kept || going) return;
  event.preventDefault();
  going = true;
  await leave();
  event.target.requestSubmit(event.submitter);
});

// The server has it already: it came from there, or was sent. The rest of what is typed is still to be kept.
document.addEventListener("composer:kept", ({ detail }) => {
  kept = content(detail);
  pause = often;
});
if (content() !== kept) soon(); // somebody types faster than a page loads
