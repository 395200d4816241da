"""Why a turn ended, in words: one sentence that says what happened and one step that helps."""

from dataclasses import dataclass, replace

from chat.money import spoken


@dataclass(frozen=True)
class Ending:
    """`action` is what the page offers: "retry", "continue", "ask" (for more money), "summarise" (the older turns) or
    "new" (chat); `otherwise` is a second way. Without any, the words say what to do in the composer."""

    words: str
    action: str = ""
    otherwise: str = ""

    @property
    def actions(self) -> list[str]:
        return [action for action in (self.action, self.otherwise) if action]

    def without_text(self) -> "Ending":
        """There is nothing that was kept, and nothing to continue."""
        words = self.words.replace(KEPT_AND_GUESSED, GUESSED).replace(KEPT, "")
        if self.action == CONTINUE:
            return replace(self, words=words, action=RETRY, otherwise="")
        return replace(self, words=words)


RETRY, CONTINUE, ASK, SUMMARISE, NEW = "retry", "continue", "ask", "summarise", "new"
OPERATOR = "The administrators have been told."
KEPT = " The text so far is kept."
GUESSED = " What it cost is an estimate."
KEPT_AND_GUESSED = " The text so far is kept, and what it cost is an estimate."

ENDINGS = {
    # Before anything was sent
    "over_budget": Ending("Your budget does not hold another answer.", ASK),
    "no_price": Ending("This model has no price yet, so nothing was sent. Choose another model. " + OPERATOR),
    "no_key": Ending("Tally has no key for Claude yet, so nothing was sent. " + OPERATOR, RETRY),
    "internal": Ending(
        "Something went wrong on our side. What you wrote is kept. If it happens again, tell an administrator.", RETRY
    ),
    # Claude said no
    "busy": Ending("Claude is busy. Nothing was charged. Try again in a minute.", RETRY),
    "rate_limited": Ending("Too many questions at once for Claude. Nothing was charged. Try again shortly.", RETRY),
    "unreachable": Ending("Claude could not be reached. Nothing was charged.", RETRY),
    "provider_auth": Ending("The service is not available: Claude did not accept our key. " + OPERATOR, RETRY),
    "provider_budget": Ending(
        "The service is not available: our account with Claude is out of money. " + OPERATOR, RETRY
    ),
    "unknown_model": Ending("Claude does not know this model. Choose another one and send it again. " + OPERATOR),
    "too_large": Ending(
        "Your message and the conversation before it are too long for the model. Nothing was charged. "
        "Summarise the older turns and try again, or send a shorter message.",
        SUMMARISE,
        RETRY,
    ),
    "bad_request": Ending("Claude could not read this request. Nothing was charged. " + OPERATOR, RETRY),
    "provider_error": Ending("Claude had a fault. Nothing was charged.", RETRY),
    # It began, and did not end
    "over_budget_paused": Ending("Your budget does not hold the next step." + KEPT, ASK),
    "cut": Ending("Interrupted: the connection to Claude broke." + KEPT_AND_GUESSED, CONTINUE, RETRY),
    "timeout": Ending("Claude did not answer in time." + GUESSED, RETRY),
    "stalled": Ending("Interrupted: Claude stopped writing." + KEPT_AND_GUESSED, CONTINUE, RETRY),
    "deadline": Ending("Interrupted: the answer took too long." + KEPT, CONTINUE, RETRY),
    "worker_lost": Ending("Interrupted: our worker went away." + KEPT, CONTINUE, RETRY),
    "stopped": Ending("Stopped.", CONTINUE, RETRY),
    # It ended, but not simply
    "max_tokens": Ending("The answer reached its length limit.", CONTINUE),
    "max_tokens_fitted": Ending("The answer was cut to fit your budget.", CONTINUE),
    "max_tokens_thinking": Ending(
        "Claude was still thinking when it reached its length limit. Choose less effort and send it again."
    ),
    "refusal": Ending("Claude declined to answer this. Ask in another way, or choose another model."),
    "pause_turn": Ending("Claude paused before it was finished.", CONTINUE),
    "model_context_window_exceeded": Ending(
        "The conversation filled the model's memory. Summarise the older turns and try again, or start a new chat.",
        SUMMARISE,
        NEW,
    ),
    "empty": Ending("Claude ended without a word.", RETRY),
    "unknown_stop": Ending("Claude ended for a reason that Tally does not know yet. The text is kept.", CONTINUE),
}

SIMPLE_STOPS = {"", "end_turn", "stop_sequence"}
TRIES = 3


def trying_again(number: int) -> str:
    """What a reader is told while Claude is asked once more. The worker says it, and a page finds it in the books."""
    return f"Claude is busy, trying again ({number} of {TRIES})"


def ending_of(turn, record=None) -> Ending | None:
    """Why a finished turn ended, or None when it is simply done."""
    if turn.is_live:
        return None
    if turn.error == "over_budget":
        return Ending(over_budget_words(turn.detail), ASK)
    if kind := _kind(turn, record):
        return ENDINGS[kind] if turn.reply.text else ENDINGS[kind].without_text()
    return None


def _kind(turn, record) -> str:
    """The key of an ending; nothing when the turn is simply done."""
    if turn.error:
        return turn.error if turn.error in ENDINGS else "internal"
    if turn.state == turn.State.STOPPED:
        return "stopped"
    if turn.stop_reason in SIMPLE_STOPS:
        return "" if turn.reply.text else "empty"
    if turn.stop_reason == "max_tokens" and not turn.reply.text:
        return "max_tokens_thinking"
    if turn.stop_reason == "max_tokens" and record is not None and record.fitted:
        return "max_tokens_fitted"
    return turn.stop_reason if turn.stop_reason in ENDINGS else "unknown_stop"


def over_budget_words(detail: dict) -> str:
    """The refusal as a sentence: what was used, of what, when it starts again, and what would still fit."""
    words = (
        f"Not sent: you have used {spoken(detail['spent'])} of {spoken(detail['limit'])} {detail['period_words']}"
        f" ({detail['source']})"
    )
    if detail["held"]:
        words += f", and {spoken(detail['held'])} is held for answers that are still being written"
    words += (
        f". {spoken(detail['left'])} is left, which does not hold this answer. It starts again on {detail['resets']}."
    )
    if detail["fits"]:
        words += f" Still possible: {', '.join(detail['fits'])}."
    return words
