"""Places at which a test may have this process die, as in a crash: FAIL_AT names one of them.

Elsewhere nothing happens: config/settings.py refuses FAIL_AT where no sandbox model answers.
"""

import os
import signal

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
    if place == settings.FAIL_AT:
        os.kill(os.getpid(), signal.SIGKILL)
