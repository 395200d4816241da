// The list of conversations: hidden or not on a wide screen, the menu of a row, and its search box.

const sidebar = document.getElementById("sidebar");
const menu = document.getElementById("menu");
const toggle = document.querySelector(".topbar__drawer");
const search = document.getElementById("search");
const wide = matchMedia("(min-width: 60rem)");
const secure = location.protocol === "https:" ? "; Secure" : "";

function say() {
  if (wide.matches) toggle.setAttribute("aria-expanded", String(!("hidden" in sidebar.dataset)));
  else toggle.removeAttribute("aria-expanded"); // as a drawer the browser says it
}

toggle.addEventListener("click", (event) => {
  if (!wide.matches) return;
  event.preventDefault();
  const hidden = sidebar.toggleAttribute("data-hidden");
  // A cookie and not storage, so that the next page comes as it will look.
  document.cookie = `sidebar=${hidden ? "hidden" : "shown"}; path=/; max-age=31536000; SameSite=Lax${secure}`;
  say();
});
wide.addEventListener("change", say);
say();

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (ctx.sourceElement.id !== "menus") return;
  menu.showPopover({ source: ctx.request.submitter });
  menu.querySelector(".menu__item").focus();
});

// Esc here means the words in the box, and not the answer that is being written.
search.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !search.value) return;
  event.preventDefault();
  search.value = "";
  search.dispatchEvent(new Event("input", { bubbles: true }));
});

sidebar.querySelector('[aria-current="page"]')?.scrollIntoView({ block: "nearest" });
