"""The only door to money: hold for a call, send it, settle it, void it, adjust it.

Every function is one transaction (or a part of the caller's). The order of locks is always: turn, usage record, budget
periods by account; so two of them wait for each other, but never in a circle.
"""

from chat.spend.admission import (
    LEAST_TOKENS,
    MOST_BYTES_PER_TOKEN,
    Call,
    OverBudget,
    Replaced,
    Unpriceable,
    admit,
    current_price,
    foresee,
    hold,
    quote,
    send,
)
from chat.spend.settlement import adjust, estimate, settle, settle_again, terms_of, usage_of, void

__all__ = [
    "LEAST_TOKENS",
    "MOST_BYTES_PER_TOKEN",
    "Call",
    "OverBudget",
    "Replaced",
    "Unpriceable",
    "adjust",
    "admit",
    "current_price",
    "estimate",
    "foresee",
    "hold",
    "quote",
    "send",
    "settle",
    "settle_again",
    "terms_of",
    "usage_of",
    "void",
]
