"""The nouns, one file each."""

from chat.models.alarm import Alarm, PeriodicTask
from chat.models.attachment import Attachment
from chat.models.budget import Budget, BudgetPeriod, BudgetRequest, BudgetWarning
from chat.models.conversation import Conversation
from chat.models.draft import Draft, NextMessage
from chat.models.message import Message
from chat.models.search import SearchEntry
from chat.models.spend import LedgerEntry, Price, UsageRecord
from chat.models.summary import Summary
from chat.models.turn import Turn
from chat.models.user import User

__all__ = [
    "Alarm",
    "Attachment",
    "Budget",
    "BudgetPeriod",
    "BudgetRequest",
    "BudgetWarning",
    "Conversation",
    "Draft",
    "LedgerEntry",
    "Message",
    "NextMessage",
    "PeriodicTask",
    "Price",
    "SearchEntry",
    "Summary",
    "Turn",
    "UsageRecord",
    "User",
]
