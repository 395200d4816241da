// Settings that were refused stand open in the page: from here on as the panel that a button opens and Esc closes.

const panel = document.getElementById("settings");

if (panel && "open" in panel.dataset) {
  delete panel.dataset.open;
  panel.popover = "auto";
  panel.showPopover();
  panel.querySelector("[aria-invalid]")?.focus();
}
