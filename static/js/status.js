// A stream brings the text of an answer, not the element around it: what arrives makes a queued answer a running one.

const thread = document.getElementById("thread");

new MutationObserver((changes) => {
  for (const { target } of changes) {
    const queued = target.parentElement?.closest('[data-status="queued"]');
    if (queued?.querySelector("[id^=stream-]")) queued.dataset.status = "running";
  }
}).observe(thread, { childList: true, subtree: true });
