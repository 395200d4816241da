"""The pictures of the README: `.venv/bin/python -m docs.screenshots http://127.0.0.1:8000 USER PASSWORD`.

Needs a running `make run` and an admin whose newest conversation is worth showing. On the phone the one before is.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from local import browser

IMAGES = Path(__file__).parent / "images"
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 375, "height": 812}


def main(site: str, user: str, password: str) -> None:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.find(), args=["--no-sandbox"])
        page = chromium.new_page(base_url=site, viewport=DESK)
        page.goto("/accounts/login/")
        page.get_by_label("Username").fill(user)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/conversations/")
        newest, before = page.locator(".sidebar__list a").evaluate_all("links => links.slice(0, 2).map(a => a.href)")

        take(page, newest, "chat-light")
        page.emulate_media(color_scheme="dark")
        take(page, newest, "chat-dark")
        page.emulate_media(color_scheme="light")
        take(page, "/spend/", "spend")
        take(page, "/admin/spend/", "team-spend")
        page.set_viewport_size(PHONE)
        take(page, before, "phone")


def take(page: Page, path: str, name: str) -> None:
    page.goto(path)
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main(*sys.argv[1:])
