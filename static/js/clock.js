// How long somebody has waited for an answer by now, counted from where the server began; its clock may differ from ours.

const thread = document.getElementById("thread");
const ahead = Date.now() - 1000 * thread.dataset.now;
const waited = (seconds) => (seconds < 60 ? `· ${seconds} s` : `· ${Math.floor(seconds / 60)} min ${seconds % 60} s`);

setInterval(() => {
  for (const clock of thread.querySelectorAll("[data-since]")) {
    const seconds = Math.floor((Date.now() - ahead) / 1000 - clock.dataset.since);
    if (seconds > 0) clock.textContent = waited(seconds);
  }
}, 1000);
