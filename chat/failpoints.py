"""Places at which a test may have this process die, as in a crash: FAIL_AT names one of them.

Or it is the path of a file that will name one, so that a test need not start a process for each. What is named there
happens once: whoever takes the file away is the one that dies. `after_sent:SIGSTOP` freezes instead of killing.
Elsewhere nothing happens: config/settings.py refuses FAIL_AT where no sandbox model answers.
"""

import signal
import threading
from pathlib import Path

from django.conf import settings

PLACES = (
    "before_claim",
    "after_claim",
    "after_sent",
    "after_message_start",
    "mid_answer",
    "after_last_byte",
    "in_commit",
    "after_commit",
)


def reached(place: str) -> None:
    """Die here, without another word, if this is the place."""
    if settings.FAIL_AT and (how := _what_happens_at(place)):
        # To this thread: a signal to the process may go to another one, and this one would run on for a while.
        signal.pthread_kill(threading.get_ident(), signal.Signals[how])


def _what_happens_at(place: str) -> str:
    """The name of a signal, or nothing."""
    file = Path(settings.FAIL_AT) if "/" in settings.FAIL_AT else None
    try:
        chosen, _, how = (file.read_text() if file else settings.FAIL_AT).partition(":")
        if chosen != place:
            return ""
        if file:
            file.unlink()
    except FileNotFoundError:
        return ""
    return how or "SIGKILL"
