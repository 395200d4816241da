// A copy button on every finished block of code, and one under every answer.

const thread = document.getElementById("thread");

async function copy(source) {
  if (navigator.clipboard) return navigator.clipboard.writeText(source.innerText.trim());
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
