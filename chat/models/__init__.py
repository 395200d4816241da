"""The nouns, one file each."""

from chat.models.attachment import Attachment
from chat.models.budget import Budget, BudgetPeriod, BudgetRequest
from chat.models.conversation import Conversation
from chat.models.message import Message
from chat.models.spend import LedgerEntry, Price, UsageRecord
from chat.models.turn import Turn
from chat.models.user import User

__all__ = [
    "Attachment",
    "Budget",
    "BudgetPeriod",
    "BudgetRequest",
    "Conversation",
    "LedgerEntry",
    "Message",
    "Price",
    "Turn",
    "UsageRecord",
    "User",
]
