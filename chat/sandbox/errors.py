"""Answers that are not 200, in the API's shape."""

import json

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Payload Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    529: "Overloaded",
}

_REGAINED = "You will regain access on the first of next month at 00:00 UTC."


class ApiError(Exception):
    """What a request is refused with. Nothing that ends in one of these is billed."""

    def __init__(self, status, kind, message, *, error_code=None, details=None, retry_after=None):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.error_code = error_code
        self.details = details or {}
        self.retry_after = retry_after

    def body(self, request_id):
        error = {"type": self.kind, "message": self.message}
        if self.error_code:
            error["details"] = {"error_code": self.error_code, **self.details}
        return json.dumps({"type": "error", "error": error, "request_id": request_id}).encode()

    content_type = "application/json"


class BadGateway(ApiError):
    """What stands in front of an API answers in HTML, not in the API's shape."""

    content_type = "text/html"

    def __init__(self):
        super().__init__(502, "api_error", "Bad gateway")

    def body(self, request_id):
        return b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad gateway</body></html>"


def invalid(message):
    return ApiError(400, "invalid_request_error", message)


def not_found(message):
    return ApiError(404, "not_found_error", message)


def too_large():
    return ApiError(413, "request_too_large", "Request exceeds the maximum size")


def unauthorized():
    return ApiError(401, "authentication_error", "invalid x-api-key")


def overloaded():
    return ApiError(529, "overloaded_error", "Overloaded")


SCRIPTED = {
    "400": lambda: invalid("messages: scripted by the sandbox"),
    "401": unauthorized,
    "402": lambda: ApiError(402, "billing_error", "There is an issue with your billing."),
    "413": too_large,
    "429": lambda: ApiError(
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of input tokens per minute.",
    ),
    "500": lambda: ApiError(500, "api_error", "Internal server error"),
    "502html": BadGateway,
    "529": overloaded,
    "too_long": lambda: invalid("prompt is too long: 1000432 tokens > 1000000 maximum"),
    "workspace_limit": lambda: invalid(f"You have reached your specified workspace API usage limits. {_REGAINED}"),
    "org_limit": lambda: invalid(f"You have reached your specified API usage limits. {_REGAINED}"),
    # The tier's monthly cap is a 429 without retry-after: waiting does not help.
    "spend_limit": lambda: ApiError(
        429,
        "rate_limit_error",
        "You have reached your API usage limits: your organization has crossed its monthly API usage "
        f"threshold, set based on your organization's API tier. {_REGAINED}",
        error_code="enforced_spend_limit_reached",
    ),
}
