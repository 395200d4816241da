"""What can go wrong with a call, in our own words."""


class ClaudeError(Exception):
    """A call that did not end well.

    `kind` is a key of chat.endings.ENDINGS. `unbilled` means that the provider cannot have charged anything, so
    the hold may be released; `again` that a new try is worth it. `retry_after` is in seconds. `alarm`: an
    administrator has to act.
    """

    def __init__(self, kind: str, *, unbilled=False, again=False, alarm=False, retry_after=None, request_id="", why=""):
        super().__init__(f"{kind}: {why}" if why else kind)
        self.kind, self.unbilled, self.again, self.alarm = kind, unbilled, again, alarm
        self.retry_after, self.request_id = retry_after, request_id
