// What is pasted or dropped: files are attached, and so is a text that is too long for a box.

const [longest, mostLines] = [4_000, 100];
const hint = () => document.getElementById("drop-hint");
const attach = (detail) => document.dispatchEvent(new CustomEvent("composer:attach", { detail }));
const bringsFiles = (event) => event.dataTransfer?.types.includes("Files");

document.addEventListener("paste", (event) => {
  const { files } = event.clipboardData;
  const text = event.clipboardData.getData("text/plain");
  // An office program puts a picture of the words beside them: whoever copies words means these.
  if (files.length && !text) {
    event.preventDefault();
    attach([...files]);
  } else if (event.target.id === "composer-text" && (text.length > longest || text.split("\n").length > mostLines)) {
    event.preventDefault();
    attach([new File([text], "Pasted text.txt", { type: "text/plain" })]);
  }
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault(); // else the browser would open the file in place of the page
    event.dataTransfer.dropEffect = "copy";
    hint().togglePopover(true);
  });
}

document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) hint().togglePopover(false); });

document.addEventListener("drop", (event) => {
  if (!bringsFiles(event)) return;
  event.preventDefault();
  hint().togglePopover(false);
  attach([...event.dataTransfer.files]);
  document.getElementById("composer-text").focus();
});
