// Another branch takes the place of what is shown from the fork on, earlier messages come in above, a question opens to
// be edited. Each time what the reader looks at stays where it is on the screen.

const thread = document.getElementById("thread");
const page = document.scrollingElement;
let kept = null;

const find = (target) => (target instanceof Element ? target : document.querySelector(target));

document.addEventListener("htmx:before:swap", ({ detail: { ctx, tasks } }) => {
  kept = null;
  const pressed = ctx.request?.submitter;
  const editing = ctx.sourceElement.closest?.(".message__tools")?.parentElement;
  const place = pressed?.closest(".siblings") ? pressed : editing;
  const selector = ctx.sourceElement.dataset?.keep ?? (place && `#${place.id}`);
  if (selector) kept = { selector, top: find(selector).getBoundingClientRect().top };
  for (const { target, swapSpec } of tasks) {
    const replaced = (swapSpec.style ?? swapSpec) === "outerHTML" && target && find(target);
    if (!replaced || !replaced.matches("#thread > .message")) continue;
    while (replaced.nextElementSibling) replaced.nextElementSibling.remove();
  }
});

function restore() {
  const element = kept && find(kept.selector);
  if (element) page.scrollBy({ top: element.getBoundingClientRect().top - kept.top, behavior: "instant" });
  kept = null;
}

// Before anything is painted, but after what scrolls to the end because something was added.
document.addEventListener("htmx:before:settle", () => queueMicrotask(restore));

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  const menu = document.getElementById("models");
  if (ctx.sourceElement.id === "lists") menu.showPopover({ source: ctx.request.submitter });
  else if (ctx.sourceElement.id === "acts") menu.hidePopover();
});

// What is written follows what its writer sees, also where another tab has gone on since.
document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => {
  const answers = thread.querySelectorAll('[data-role="assistant"]');
  const last = answers[answers.length - 1];
  if (ctx.sourceElement.id === "composer" && last) ctx.request.body.set("after", last.id.replace("message-", ""));
});

// A link to a message that is not on this page: of an earlier one, or of another branch.
const linked = location.hash.match(/^#message-([0-9a-f-]{36})$/);
if (linked && !document.querySelector(linked[0]) && !location.search) {
  location.replace(`?message=${linked[1]}${location.hash}`);
}
