// A copy button on every finished block of code, and one under every answer.

const thread = document.getElementById("thread");

// A formula is copied as its TeX. The text is read from a copy, since only what is laid out has its line breaks.
function textOf(source) {
  if (!source.querySelector("math")) return source.innerText.trim();
  const copy = source.cloneNode(true);
  copy.removeAttribute("id");
  copy.className = "prose visually-hidden";
  for (const math of copy.querySelectorAll("math")) {
    const mark = math.getAttribute("display") === "block" ? "$$" : "$";
    math.replaceWith(mark + math.getAttribute("alttext") + mark);
  }
  document.body.append(copy);
  const text = copy.innerText.trim();
  copy.remove();
  return text;
}

async function copy(source) {
  if (navigator.clipboard) return navigator.clipboard.writeText(textOf(source));
  // Without HTTPS there is no clipboard object.
  const selection = getSelection();
  selection.selectAllChildren(source);
  document.execCommand("copy");
  selection.removeAllRanges();
}

function addButtons() {
  // The block still being written is replaced many times a second: it gets its button when it is finished.
  for (const figure of thread.querySelectorAll("figure.code:not(:has(.copy-code), .message__open *)")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy-code";
    button.setAttribute("aria-label", "Copy code");
    figure.querySelector("figcaption").append(button);
  }
}

document.addEventListener("click", async ({ target }) => {
  const code = target.closest(".copy-code");
  const answer = target.closest("[data-copy]");
  if (!code && !answer) return;
  const button = code ?? answer;
  await copy(code ? code.closest("figure").querySelector("pre") : document.querySelector(answer.dataset.copy));
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
});

new MutationObserver(addButtons).observe(thread, { childList: true, subtree: true });
addButtons();
