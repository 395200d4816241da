"""What a browser needs for a page, cold: by headless Chromium's own log."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from bench.figures import Bench, Row
from bench.stand import LOOPBACK
from local import browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOADS = 5
SHOWN = 30  # messages of a page, as in chat/thread.py: the earlier ones come on demand
# Milliseconds from the click on the link until the scripts have run and the page has been painted.
READY = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return Math.max(page.domContentLoadedEventEnd, paint ? paint.startTime : 0);
}"""


def pages(bench: Bench) -> list[Row]:
    """A page with little on it: what comes over the wire. Long ones: when they are ready."""
    threads = {count: bench.stand.seed("thread", messages=count) for count in (2, *bench.scale.threads)}
    loads = {}
    with _chromium() as chromium:
        for count, thread in threads.items():
            loads[count] = [_load(chromium, bench.stand.port, thread, count) for _ in range(LOADS)]
    requests, kilobytes, _ = loads[2][0]
    ready = [statistics.median(seconds for _, _, seconds in loads[count]) for count in bench.scale.threads]
    sizes = ", ".join(f"{count} messages {load[0][1]:.0f} kB" for count, load in loads.items())
    named = " / of ".join(f"{count:,}" for count in bench.scale.threads)
    return [
        Row("chat page, cold: requests / kB on the wire", "", (15, 100), (requests, kilobytes)),
        Row(f"chat of {named} messages ready, cold", "s", (0.5, 0.8), tuple(ready), notes=[f"on the wire: {sizes}"]),
    ]


@contextmanager
def _chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.find(), args=FLAGS)
        yield chromium
        chromium.close()


def _load(chromium: Browser, port: int, thread: dict, messages: int) -> tuple[int, float, float]:
    """Requests, kB as transferred, seconds until it is ready; with an empty cache."""
    url = f"http://{LOOPBACK}:{port}"
    context = chromium.new_context()
    context.add_cookies([{"name": "sessionid", "value": thread["session"], "url": url}])
    page = context.new_page()
    sizes: list[float] = []
    _listen(page, sizes)
    page.goto(url + thread["path"], wait_until="networkidle")
    if page.locator("form#composer").count() != 1 or page.locator("[data-role]").count() != min(messages, SHOWN):
        raise RuntimeError(f"This is not the page of a chat of {messages} messages.")
    seconds = page.evaluate(READY) / 1000
    context.close()
    return len(sizes), sum(sizes), seconds


def _listen(page: Page, sizes: list[float]) -> None:
    log = page.context.new_cdp_session(page)
    log.send("Network.enable")
    log.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"] / 1000))
