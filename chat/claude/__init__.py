"""The only door to Anthropic: nothing outside this package imports `anthropic` or knows its wire.

`client` and `organization` are imported where they are used: the SDK is most of a worker's memory, and the web has no
use for it.
"""

from chat.claude.answer import Answer
from chat.claude.bounds import bound_of, terms_of
from chat.claude.errors import ClaudeError
from chat.claude.request import Request, request_for, summarised, title_request
from chat.claude.summary import summary_request

__all__ = [
    "Answer",
    "ClaudeError",
    "Request",
    "bound_of",
    "request_for",
    "summarised",
    "summary_request",
    "terms_of",
    "title_request",
]
