"""The pictures of the README: `.venv/bin/python -m docs.screenshots`, some two minutes.

Runs this clone as `make run` does, on a database of its own, and has people of a small company ask and wait. Their
words, and Claude's (docs/scenes/), were written for the pictures: the sandbox model says them. All else is the
product's own: files, Markdown, tokens, prices, limits.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from chat.sandbox import Sandbox
from local import browser
from local.ports import LOOPBACK, free_port

HERE = Path(__file__).parent
IMAGES, SCENES = HERE / "images", HERE / "scenes"
DESK: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 375, "height": 812}
ADA, PASSWORD = "ada", "countess-of-lovelace"

CARRIERS = (
    "Kestrel costs 12 % less than Norpost, but is late more often: chart and offer attached. "
    "A late parcel costs us €6.40. Should we switch?"
)
EXPORT = "The nightly export of orders is killed at 2 GB. How do I write it without holding it all in memory?"
# What else Ada asked, with the days since.
EARLIER = {
    "Questions for the interview": 3,
    "Returns policy in Dutch": 2,
    "Stocktaking in January": 1,
    "Sizes of the autumn jackets": 0,
    "Reply to the customs office": 0,
}
# Name, team, questions, and the tokens that Claude thought for each.
PEOPLE = [
    ("Grace Lindqvist", "Support", 9, 46_000),
    ("Tomás Herrera", "Support", 4, 31_000),
    ("Mei Tanaka", "Engineering", 8, 58_000),
    ("Samuel Okoro", "Engineering", 6, 27_000),
    ("Ines Duarte", "Marketing", 3, 21_000),
]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tally-pictures-") as name, Sandbox(ttft_ms=300, rate=90) as sandbox:
        directory = Path(name)
        with _product(directory, sandbox) as site:
            _people_at_work(sandbox)
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=browser.find(), args=["--no-sandbox"])
                _take_pictures(chromium, site, sandbox, directory)


@contextmanager
def _product(directory: Path, sandbox: Sandbox) -> Iterator[str]:
    """Everything of `make run` but the sandbox model, until the pictures are taken."""
    port = free_port()
    os.environ.update(
        DATABASE_URL=f"sqlite:///{directory / 'tally.sqlite3'}",
        MEDIA_ROOT=str(directory / "media"),
        ANTHROPIC_BASE_URL=sandbox.url,
        ANTHROPIC_API_KEY="sandbox-key",
        PORT=str(port),
        DJANGO_SUPERUSER_USERNAME=ADA,
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )
    running = subprocess.Popen([sys.executable, "-u", "-m", "local"], stdout=subprocess.PIPE, text=True)
    try:
        if not any(line.startswith("Ready") for line in running.stdout or ()):
            sys.exit("The product did not start.")
        yield f"http://{LOOPBACK}:{port}"
    finally:
        running.terminate()
        running.wait()


def _people_at_work(sandbox: Sandbox) -> None:
    """Teams, limits, and what was asked before. Every answer is asked for and paid as any other."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    from django.contrib.auth.models import Group
    from django.utils import timezone

    from chat import asking, limits
    from chat.models import Budget, Conversation, User
    from chat.money import nano

    ada = User.objects.get(username=ADA)
    ada.first_name, ada.last_name = "Ada", "Byron"
    ada.save(update_fields=["first_name", "last_name"])
    everyone = Budget.objects.get(user=None, group=None)
    everyone.limit = nano("2")
    everyone.save(update_fields=["limit"])
    teams = {name: Group.objects.create(name=name) for name in dict.fromkeys(team for _, team, *_ in PEOPLE)}
    Budget.objects.create(group=teams["Support"], limit=nano("6"), kind=Budget.Kind.POT)
    Budget.objects.create(group=teams["Engineering"], limit=nano("1.50"))
    ada.groups.add(teams["Support"])

    for name, team, questions, tokens in PEOPLE:
        first, last = name.split()
        person = User.objects.create_user(username=first.lower(), first_name=first, last_name=last)
        person.groups.add(teams[team])
        for number in range(questions):
            _ask(sandbox, person, f"{team} question {number + 1}", tokens=tokens)
    grace, until = User.objects.get(username="grace"), timezone.now() + timedelta(days=7)
    reason = "Sorting the returns of the sale"
    asking.ask(grace, limit=limits.askable(grace)[0], amount=nano("1"), until=until, reason=reason)
    for title, days in EARLIER.items():
        conversation = _ask(sandbox, ada, title, tokens=11_000, model="claude-opus-5-5")
        moment = timezone.now()
        asked = Conversation.objects.filter(id=conversation.id)
        asked.update(updated_at=moment - timedelta(days=days, minutes=90), read_at=moment)


def _ask(sandbox: Sandbox, person, text: str, *, tokens: int, model: str = "claude-sonnet-5-5"):
    """A question in a new conversation, which it names, and a short answer after so many tokens of thinking."""
    from django.test import Client

    sandbox.enqueue(match=text, thinking=tokens, rate=100_000)
    sandbox.enqueue(match=text, say=_in_directive(text))
    client = Client(SERVER_NAME="localhost")
    client.force_login(person)
    client.post("/conversations/", {"text": text, "model": model})
    conversation = person.conversations.latest("created_at")
    answer_and_title = person.usage_records.filter(conversation=conversation, state="settled")
    while answer_and_title.count() < 2 or conversation.turns.live().exists():
        time.sleep(0.05)
    return conversation


def _take_pictures(chromium: Browser, site: str, sandbox: Sandbox, directory: Path) -> None:
    files = _files(directory)
    context = chromium.new_context(base_url=site, viewport=DESK, device_scale_factor=2, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(ADA)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/conversations/")

    _converse(page, sandbox, EXPORT, "Export in constant memory", SCENES / "export.md", thinking=420)
    page.emulate_media(color_scheme="dark")
    page.get_by_label("Message").fill("And how do I test that it stays in constant memory?")
    _take(page, "chat-dark")

    page.emulate_media(color_scheme="light")
    page.goto("/conversations/")
    first = SCENES / "carriers-first.md"
    carriers = _converse(page, sandbox, CARRIERS, "Kestrel or Norpost?", first, thinking=60, files=files)
    sandbox.enqueue(match=CARRIERS, say=_in_directive((SCENES / "carriers.md").read_text()), thinking=560)
    page.get_by_role("button", name="Try again", exact=True).click()
    _wait_for_the_end(page, answers=2)
    page.get_by_label("Message").fill("Draft the mail to Kestrel: yes from January, and ask for December's figures.")
    _take(page, "chat-light")

    page.get_by_label("Model", exact=True).click()
    _take(page, "models", clip={"x": 480, "y": 582, "width": 740, "height": 318})
    _open(page, "/spend/")
    _take(page, "spend")
    _open(page, "/admin/spend/")
    _take(page, "team-spend")
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    _open(page, carriers)
    _take(page, "phone")


def _converse(
    page: Page,
    sandbox: Sandbox,
    question: str,
    title: str,
    answer: Path,
    *,
    thinking: int,
    files: Mapping[str, Path] | None = None,
) -> str:
    """Ask in a new conversation as anybody does; its address, once it has an answer and a title."""
    sandbox.enqueue(match=question, say=_in_directive(answer.read_text()), thinking=thinking)
    sandbox.enqueue(match=question, say=_in_directive(title))
    for name, path in (files or {}).items():
        page.locator("#composer-attach").set_input_files(path)
        page.get_by_role("button", name=f"Remove {name}").wait_for()
    page.get_by_label("Model", exact=True).select_option("claude-sonnet-5-5")
    page.get_by_label("Message").fill(question)
    page.get_by_role("button", name="Send").click()
    page.wait_for_url("**/conversations/*-*/")
    _wait_for_the_end(page, answers=1)
    page.get_by_role("link", name=title).first.wait_for()
    return page.url


def _wait_for_the_end(page: Page, *, answers: int) -> None:
    words = f"{answers}/{answers}" if answers > 1 else "Try again"
    page.locator('[data-role="assistant"][data-status="done"]', has_text=words).wait_for(timeout=60_000)


def _open(page: Page, path: str) -> None:
    page.goto(path)
    page.wait_for_load_state("networkidle")


def _take(page: Page, name: str, **part) -> None:
    """A palette of 256 colours is enough for a page, and a third of the bytes."""
    page.wait_for_timeout(1500)  # the price of what stands in the box comes after a pause in typing
    taken = Image.open(BytesIO(page.screenshot(animations="disabled", **part))).convert("RGB")
    taken.quantize(256, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def _in_directive(text: str) -> str:
    return quote(text.strip())


def _files(directory: Path) -> dict[str, Path]:
    """The chart and the offer that Ada attaches, by name."""
    chart, offer = directory / "late-parcels.png", directory / "kestrel-offer.pdf"
    _chart().save(chart)
    pages = [Image.new("L", (595, 842), "white") for _ in range(3)]
    pages[0].save(offer, save_all=True, append_images=pages[1:])
    return {chart.name: chart, offer.name: offer}


def _chart() -> Image.Image:
    """Late parcels by month, two carriers."""
    picture = Image.new("RGB", (960, 290), "#fbfaf6")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(26)
    for percent in (5, 10, 15):
        y = 245 - percent * 13
        draw.line([(100, y), (930, y)], fill="#dcdad2", width=2)
        draw.text((50, y - 16), str(percent), fill="#77746b", font=font)
    draw.text((120, 4), "Late parcels, %", fill="#22211d", font=font)
    draw.text((420, 4), "Kestrel", fill="#c0673a", font=font)
    draw.text((540, 4), "Norpost", fill="#1f6f54", font=font)
    kestrel = [6, 6.2, 5.4, 7, 7.2, 6, 7, 8, 8.4, 9.2, 15, 15.4]
    norpost = [3, 2, 2, 3, 3, 2, 3, 3, 3, 3.6, 4.6, 5]
    for month, (one, other, name) in enumerate(zip(kestrel, norpost, "JFMAMJJASOND", strict=True)):
        x = 112 + month * 68
        draw.rectangle([x, 245 - one * 13, x + 24, 245], fill="#c0673a")
        draw.rectangle([x + 26, 245 - other * 13, x + 50, 245], fill="#1f6f54")
        draw.text((x + 15, 254), name, fill="#77746b", font=font)
    return picture


if __name__ == "__main__":
    main()
