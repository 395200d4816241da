// Files go up as soon as they are chosen, and the message then only names them. What comes back is the server's chip.

const form = document.getElementById("composer");
const [region, announcer] = ["composer-files", "announcer"].map((id) => document.getElementById(id));
const list = region.querySelector("ul");
const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
const underWay = new Map();
let sendAfterwards = null;

function upload(file) {
  const [chip, request, body] = [fromTemplate("file-uploading"), new XMLHttpRequest(), new FormData()];
  chip.querySelector("[data-name]").textContent = file.name;
  list.append(chip);
  underWay.set(chip, request);
  body.append("files", file, file.name);
  // fetch cannot tell how far a body has come.
  request.upload.onprogress = (event) => { chip.querySelector("progress").value = event.loaded / event.total; };
  request.onloadend = () => finish(chip, request, file.name);
  request.open("POST", region.dataset.upload);
  request.setRequestHeader("HX-Request", "true");
  request.setRequestHeader("X-CSRFToken", new FormData(form).get("csrfmiddlewaretoken"));
  request.setRequestHeader("X-Person", document.body.dataset.person);
  request.send(body);
}

function finish(chip, request, name) {
  underWay.delete(chip);
  if ([200, 400, 413, 422].includes(request.status)) {
    const answer = document.createRange().createContextualFragment(request.responseText);
    const chips = [...answer.children];
    chip.replaceWith(...chips);
    for (const each of chips) htmx.process(each);
    if (request.status === 200) announcer.textContent = `${name} ${region.dataset.attached}`;
  } else if (chip.isConnected) {
    const failed = fromTemplate("file-failed");
    failed.querySelector("[data-why]").textContent = `${name}: ${region.dataset.failed}`;
    chip.replaceWith(failed);
  }
  if (underWay.size || !sendAfterwards) return;
  sendAfterwards = null;
  if (!list.querySelector(".file--refused")) form.requestSubmit();
}

// What is dismissed need not go on.
new MutationObserver(() => underWay.forEach((request, chip) => chip.isConnected || request.abort())).observe(list, { childList: true });

form.addEventListener("submit", (event) => {
  if (!underWay.size || (event.submitter && event.submitter.name !== "send")) return;
  event.preventDefault();
  event.stopImmediatePropagation(); // Send waits for what is still on its way
  sendAfterwards = event;
}, { capture: true });

form.addEventListener("change", ({ target }) => {
  if (target.id !== "composer-attach") return;
  [...target.files].forEach(upload);
  target.value = "";
});

document.addEventListener("composer:attach", ({ detail }) => detail.forEach(upload));
