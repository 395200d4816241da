"""Why a turn ended, in words: one sentence that says what happened and one step that helps."""

from dataclasses import dataclass

from chat.money import spoken


@dataclass(frozen=True)
class Ending:
    """`action` is what the page offers: "retry", "continue", "ask" (for more money) or nothing."""

    words: str
    action: str = ""


RETRY, CONTINUE, ASK = "retry", "continue", "ask"
OPERATOR = "The administrators have been told."

ENDINGS = {
    # Before anything was sent
    "over_budget": Ending("Your budget does not hold another answer.", ASK),
    "no_price": Ending("This model has no price yet, so nothing was sent. Choose another model. " + OPERATOR),
    "no_key": Ending("Tally has no key for Claude yet, so nothing was sent. " + OPERATOR, RETRY),
    "internal": Ending("Something went wrong on our side. What you wrote is kept. " + OPERATOR, RETRY),
    # Claude said no
    "busy": Ending("Claude is busy. We tried three times; nothing was charged. Try again in a minute.", RETRY),
    "rate_limited": Ending("Too many questions at once for Claude. Nothing was charged. Try again shortly.", RETRY),
    "unreachable": Ending("Claude could not be reached. Nothing was charged.", RETRY),
    "provider_auth": Ending("The service is not available: Claude did not accept our key. " + OPERATOR, RETRY),
    "provider_budget": Ending(
        "The service is not available: our account with Claude is out of money. " + OPERATOR, RETRY
    ),
    "unknown_model": Ending("Claude does not know this model. Choose another one. " + OPERATOR),
    "too_large": Ending("This conversation is too long for the model. Start a new one, or shorten the last message."),
    "bad_request": Ending("Claude could not read this request. Nothing was charged. " + OPERATOR, RETRY),
    "provider_error": Ending("Claude had a fault. Nothing was charged.", RETRY),
    # It began, and did not end
    "over_budget_paused": Ending("Your budget does not hold the next step. The text so far is kept.", ASK),
    "cut": Ending("The connection to Claude broke. The text so far is kept, and what it cost is an estimate.", RETRY),
    "timeout": Ending("Claude did not answer in time. What it cost is an estimate.", RETRY),
    "stalled": Ending("Claude stopped writing. The text so far is kept, and what it cost is an estimate.", RETRY),
    "deadline": Ending("The answer took too long. The text so far is kept.", CONTINUE),
    "worker_lost": Ending("Interrupted: our worker went away. The text so far is kept.", RETRY),
    "stopped": Ending("Stopped."),
    # It ended, but not simply
    "max_tokens": Ending("The answer reached its length limit.", CONTINUE),
    "max_tokens_fitted": Ending("The answer was cut to fit your budget.", CONTINUE),
    "refusal": Ending("Claude declined to answer this. Try to ask in another way."),
    "pause_turn": Ending("Claude paused before it was finished.", CONTINUE),
    "model_context_window_exceeded": Ending("The conversation filled the model's memory. Start a new one to go on."),
    "empty": Ending("Claude ended without a word.", RETRY),
    "unknown_stop": Ending("Claude ended for a reason that Tally does not know yet. The text is kept.", CONTINUE),
}

SIMPLE_STOPS = {"", "end_turn", "stop_sequence"}


def ending_of(turn, record=None) -> Ending | None:
    """Why a finished turn ended, or None when it is simply done."""
    if turn.is_live:
        return None
    if turn.error == "over_budget":
        return Ending(over_budget_words(turn.detail), ASK)
    if turn.error:
        return ENDINGS.get(turn.error, ENDINGS["internal"])
    if turn.state == turn.State.STOPPED:
        return ENDINGS["stopped"]
    if turn.stop_reason in SIMPLE_STOPS:
        return None if turn.reply.text else ENDINGS["empty"]
    if turn.stop_reason == "max_tokens" and record is not None and record.fitted:
        return ENDINGS["max_tokens_fitted"]
    return ENDINGS.get(turn.stop_reason, ENDINGS["unknown_stop"])


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
