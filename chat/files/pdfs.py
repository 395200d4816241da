"""PDFs: their header, their pages, and whether they are locked. What stands on the pages is Claude's to read."""

import subprocess
import sys
import threading
from pathlib import Path

from chat.files.facts import Facts
from chat.files.refusals import BROKEN_PDF, BUSY, LOCKED_PDF, NO_PAGES, SLOW_PDF, Refused
from chat.models import Attachment

PROGRAM = Path(__file__).with_name("pdf_pages.py")
PATIENCE = 15  # seconds; the program gives up by itself after ten of work
MOST_PAGES = 600  # that any model takes; those of a small window take fewer (claude.sizes)
MEDIA_TYPE = "application/pdf"

# Readers at a time: each may take a core for seconds, and memory.
_room = threading.BoundedSemaphore(2)


def is_pdf(head: bytes) -> bool:
    """Readers allow some bytes before the header."""
    return b"%PDF-" in head[:1_024]


def look(path: str) -> Facts:
    """Raises Refused."""
    pages = _pages(path)
    if pages == 0:
        raise Refused(NO_PAGES)
    if pages > MOST_PAGES:
        raise Refused(f"This PDF has {pages:,} pages; Claude takes {MOST_PAGES} at most. Attach a part of it.")
    return Facts(kind=Attachment.Kind.PDF, media_type=MEDIA_TYPE, own_type=MEDIA_TYPE, pages=pages)


def _pages(path: str) -> int:
    if not _room.acquire(timeout=PATIENCE):
        raise Refused(BUSY)
    try:
        return _read(path)
    finally:
        _room.release()


def _read(path: str) -> int:
    try:
        with Path(path).open("rb") as file:
            # -I: nothing of our environment (no key, no path) is the program's business.
            done = subprocess.run(
                [sys.executable, "-I", str(PROGRAM), str(MOST_PAGES)],
                stdin=file,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                env={},
            )
    except subprocess.TimeoutExpired:
        raise Refused(SLOW_PDF) from None
    answer = done.stdout.strip()
    if answer == "locked":
        raise Refused(LOCKED_PDF)
    if done.returncode < 0:
        raise Refused(SLOW_PDF)
    if not answer.isdecimal():
        raise Refused(BROKEN_PDF)
    return int(answer)
