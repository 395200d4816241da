// The form in place of a question: Enter sends, Shift-Enter breaks the line, Esc and Cancel bring the question back.

const typesByTouch = matchMedia("(hover: none) and (pointer: coarse)");

function cancel(form) {
  const article = form.closest(".message");
  form.remove();
  article.querySelector(".message__tools a")?.focus();
}

document.addEventListener("click", (event) => {
  const form = event.target.closest("[data-cancel]")?.closest(".edit");
  if (!form) return;
  event.preventDefault();
  cancel(form);
});

// Before the listeners of the document, for which Esc stops an answer.
document.getElementById("thread").addEventListener("keydown", (event) => {
  const form = event.target.closest(".edit");
  if (!form || event.isComposing || event.keyCode === 229) return;
  if (event.key === "Escape") {
    event.preventDefault();
    cancel(form);
  }
  if (event.key === "Enter" && event.target.matches("textarea") && !event.shiftKey && !typesByTouch.matches) {
    event.preventDefault();
    form.requestSubmit();
  }
});

// What is typed here is kept nowhere else yet: whoever leaves the page is asked first.
addEventListener("beforeunload", (event) => {
  const boxes = [...document.querySelectorAll(".edit textarea")];
  if (boxes.some((box) => box.value !== box.defaultValue)) event.preventDefault();
});

document.addEventListener("htmx:after:swap", () => {
  const box = document.activeElement;
  if (!box?.matches(".edit textarea") || box.selectionEnd > 0) return;
  box.setSelectionRange(box.value.length, box.value.length);
  box.form.scrollIntoView({ block: "nearest" });
});

document.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
  const error = ctx.sourceElement.querySelector?.(".edit__error");
  if (!ctx.sourceElement.isConnected || !error || error.textContent.trim()) return;
  error.textContent = "That could not be sent. Your text is still here: please try again.";
});
