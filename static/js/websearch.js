// Whether the chosen model can search the web, and what that takes.

const model = document.getElementById("composer-model");
const search = document.getElementById("composer-search");
const words = document.getElementById("composer-search-words");

function show() {
  const { searches, noSearch } = model.selectedOptions[0].dataset;
  search.disabled = Boolean(noSearch);
  words.textContent = search.parentElement.title = noSearch || searches;
}

if (search) model.addEventListener("change", show);
