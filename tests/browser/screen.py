"""What somebody does and sees at the page of a conversation, whoever serves it."""

from playwright.sync_api import Locator, Page

from chat import rendering


def send(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def answer(page: Page) -> Locator:
    """The newest answer."""
    return page.locator('[data-role="assistant"]').last


def body(page: Page) -> Locator:
    return answer(page).locator(".message__body")


def shown_and_stored(page: Page, text: str) -> list[str]:
    """The HTML of the newest answer as it stands on the screen, and the browser's own reading of what the server makes
    of `text`, element by element."""
    return body(page).evaluate(
        """(body, stored) => {
            const shown = body.firstElementChild.cloneNode(true);
            shown.querySelectorAll(".copy-code, .fold-code").forEach(button => button.remove());
            return [shown.innerHTML, new DOMParser().parseFromString(stored, "text/html").body.innerHTML];
        }""",
        rendering.linked(rendering.render(text), answer(page).get_attribute("id")),
    )
