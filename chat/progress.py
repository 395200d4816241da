"""What a reader is told while an answer is made, and how long Claude thought. The worker says it live, a page says it
from the database."""

from datetime import timedelta

WAITING = "Waiting for a free place"
THINKING = "Thinking"
LONGEST_QUERY = 120


def searching(query: str) -> str:
    """`query` is empty once the results are there."""
    if not query:
        return "Reading what the search found"
    return f"Searching the web: {query if len(query) <= LONGEST_QUERY else query[:LONGEST_QUERY] + '…'}"


def thought(milliseconds: int) -> str:
    """Empty if it is not known to have thought at all."""
    seconds = milliseconds // 1000
    if not milliseconds:
        return ""
    return f"Thought for {_words(seconds)}" if seconds else "Thought for a moment"


def waited(time: timedelta) -> str:
    """What stands after the words of a wait; static/js/clock.js counts on from it."""
    seconds = int(time.total_seconds())
    return f"· {_words(seconds)}" if seconds > 0 else ""


def _words(seconds: int) -> str:
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60} s"
