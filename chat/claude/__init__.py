"""The only door to Anthropic: nothing outside this package imports `anthropic` or knows its wire."""

from chat.claude.answer import Answer
from chat.claude.client import Claude
from chat.claude.errors import ClaudeError
from chat.claude.request import Request, bound_of, request_for, title_request

__all__ = ["Answer", "Claude", "ClaudeError", "Request", "bound_of", "request_for", "title_request"]
