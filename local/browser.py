"""A Chromium for the browser tests: one that is installed, else one we can install."""

import os
import shutil
import subprocess
import sys
from functools import cache

from playwright.sync_api import sync_playwright


@cache
def find() -> str | None:
    """Path of a Chromium that starts on this machine."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) and _starts(path):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if _starts(path) else None


def main() -> int:
    if os.environ.get("SKIP_BROWSER") == "1":
        print("Browser tests are left out: SKIP_BROWSER=1")
        return 0
    if find() or _install():
        return 0
    print(
        "There is no Chromium and none could be installed, so the browser tests cannot run: "
        "install chromium, or leave them out with SKIP_BROWSER=1.",
        file=sys.stderr,
    )
    return 1


def _install() -> bool:
    print("Looking for a Chromium to install", flush=True)
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        ways += [["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", "chromium"]]
    for way in ways:
        subprocess.run(way, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdin=subprocess.DEVNULL)
        find.cache_clear()
        if find():
            return True
    return False


def _starts(path: str) -> bool:
    """A browser without the libraries it needs is there but does not start."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(main())
