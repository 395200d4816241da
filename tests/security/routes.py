"""Every route of the site, from the URL resolver, and what each person gets there.

The figures are the statuses for somebody not signed in, for Alice whose things they are, for Bob who is a stranger
to them, and for Ada, who runs the site and still may not read a word of Alice's.
"""

import re

from django.urls import URLPattern, URLResolver, get_resolver

PEOPLE = ("anonymous", "alice", "bob", "ada")

# route: (GET, POST)
ROUTES = {
    "": ("302 302 302 302", "405 405 405 405"),
    "conversations/": ("302 200 200 200", "302 302 302 302"),
    "conversations/<uuid:conversation_id>/": ("302 200 404 404", "302 405 405 405"),
    "conversations/<uuid:conversation_id>/messages/": ("302 405 405 405", "302 422 404 404"),
    "conversations/<uuid:conversation_id>/draft/": ("302 200 404 404", "302 204 404 404"),
    "drafts/": ("302 200 200 200", "302 204 204 204"),
    # Nothing waits there, so there is nothing to say but that.
    "conversations/<uuid:conversation_id>/next/": ("302 200 404 404", "302 405 405 405"),
    "conversations/<uuid:conversation_id>/next/withdrawal/": ("302 405 405 405", "302 409 404 404"),
    "conversations/<uuid:conversation_id>/next/deletion/": ("302 405 405 405", "302 409 404 404"),
    "preferences/": ("302 200 200 200", "302 302 302 302"),
    "conversations/search/": ("302 200 200 200", "302 405 405 405"),
    "conversations/older/": ("302 200 200 200", "302 405 405 405"),
    "conversations/archive/": ("302 200 200 200", "302 405 405 405"),
    "conversations/<uuid:conversation_id>/menu/": ("302 200 404 404", "302 405 405 405"),
    "conversations/<uuid:conversation_id>/place/": ("302 405 405 405", "302 302 404 404"),
    "conversations/<uuid:conversation_id>/reading/": ("302 405 405 405", "302 204 404 404"),
    "conversations/<uuid:conversation_id>/export.md": ("302 200 404 404", "302 405 405 405"),
    "conversations/<uuid:conversation_id>/export.json": ("302 200 404 404", "302 405 405 405"),
    "shortcuts/": ("302 200 200 200", "302 302 302 302"),
    "conversations/<uuid:conversation_id>/title/": ("302 200 404 404", "302 302 404 404"),
    "conversations/<uuid:conversation_id>/settings/": ("302 405 405 405", "302 302 404 404"),
    "conversations/<uuid:conversation_id>/deletion/": ("302 405 405 405", "302 302 404 404"),
    "foresight/": ("302 405 405 405", "302 200 200 200"),
    "conversations/<uuid:conversation_id>/foresight/": ("302 405 405 405", "302 200 404 404"),
    # Of one exchange nothing is old enough.
    "conversations/<uuid:conversation_id>/summaries/": ("302 405 405 405", "302 409 404 404"),
    "summaries/<uuid:summary_id>/": ("302 200 404 404", "302 405 405 405"),
    "summaries/<uuid:summary_id>/stop/": ("302 405 405 405", "302 302 404 404"),
    "summaries/<uuid:summary_id>/use/": ("302 405 405 405", "302 302 404 404"),
    "attachments/": ("302 405 405 405", "302 422 422 422"),
    "attachments/<uuid:attachment_id>/": ("302 200 404 404", "302 405 405 405"),
    "attachments/<uuid:attachment_id>/thumbnail/": ("302 200 404 404", "302 405 405 405"),
    "attachments/<uuid:attachment_id>/deletion/": ("302 405 405 405", "302 200 404 404"),
    "turns/<uuid:turn_id>/stream/": ("404 200 404 404", "405 405 405 405"),
    "turns/<uuid:turn_id>/stop/": ("302 405 405 405", "302 302 404 404"),
    "turns/<uuid:turn_id>/retries/": ("302 200 404 404", "302 302 404 404"),
    "messages/<uuid:message_id>/siblings/": ("302 200 404 404", "302 422 404 404"),
    "messages/<uuid:message_id>/selection/": ("302 405 405 405", "302 302 404 404"),
    "spend/": ("302 200 200 200", "302 405 405 405"),
    "spend/calls.csv": ("302 200 200 200", "302 405 405 405"),
    "spend/limit/": ("302 405 405 405", "302 422 422 422"),
    "spend/requests/": ("302 200 200 200", "302 422 422 422"),
    "spend/requests/<int:request_id>/withdrawal/": ("302 405 405 405", "302 302 404 404"),
    # Hers is not decided yet, so there is nothing that even she could dismiss.
    "spend/requests/<int:request_id>/dismissal/": ("302 405 405 405", "302 404 404 404"),
    "spend/warnings/<int:warning_id>/dismissal/": ("302 405 405 405", "302 302 404 404"),
    "healthz": ("200 200 200 200", "405 405 405 405"),
    # Ready or not: whether a worker runs is not this matrix's business, nor a secret.
    "readyz": ("200|503 200|503 200|503 200|503", "405 405 405 405"),
    "metrics": ("404 404 404 404", "405 405 405 405"),
    "accounts/login/": ("200 302 302 302", "200 302 302 302"),
    "accounts/logout/": ("302 200 200 200", "302 302 302 302"),
    "accounts/inactive/": ("200 200 200 200", "405 405 405 405"),
    "accounts/signup/": ("200 302 302 302", "200 302 302 302"),
    "accounts/reauthenticate/": ("302 200 200 200", "302 200 200 200"),
    "accounts/password/change/": ("302 200 200 200", "302 200 200 200"),
    "accounts/password/reset/": ("200 200 200 200", "200 200 200 200"),
    "accounts/password/reset/key/done/": ("200 200 200 200", "405 405 405 405"),
    "accounts/^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$": ("200 200 200 200", "200 200 200 200"),
    "accounts/password/reset/done/": ("200 200 200 200", "405 405 405 405"),
    "admin/": ("302 302 302 200", "302 302 302 200"),
    "admin/spend/books/": ("302 302 302 200", "302 302 302 405"),
    "admin/spend/": ("302 302 302 200", "302 302 302 200"),
    "admin/spend/people.csv": ("302 302 302 200", "302 302 302 405"),
    "admin/spend/calls.csv": ("302 302 302 200", "302 302 302 405"),
    "admin/spend/ledger.csv": ("302 302 302 200", "302 302 302 405"),
    "admin/spend/calls/<uuid:record_id>/correction/": ("302 302 302 200", "302 302 302 422"),
    "admin/spend/requests/<int:request_id>/grant/": ("302 302 302 405", "302 302 302 302"),
    "admin/spend/requests/<int:request_id>/decline/": ("302 302 302 405", "302 302 302 302"),
    "admin/spend/requests/<int:request_id>/undo/": ("302 302 302 405", "302 302 302 302"),
    "admin/spend/people/<int:user_id>/limit/": ("302 302 302 405", "302 302 302 422"),
    "admin/login/": ("302 403 403 302", "302 403 403 200"),
    "admin/logout/": ("302 302 302 405", "302 302 302 200"),
    "admin/password_change/": ("302 302 302 200", "302 302 302 200"),
    "admin/password_change/done/": ("302 302 302 200", "302 302 302 405"),
    "admin/autocomplete/": ("302 302 302 403", "302 302 302 405"),
    "admin/jsi18n/": ("302 302 302 200", "302 302 302 405"),
    "admin/r/<path:content_type_id>/<path:object_id>/": ("302 302 302 404", "302 302 302 404"),
    "admin/^(?P<app_label>chat|auth|account)/$": ("302 302 302 200", "302 302 302 200"),
    "admin/(?P<url>.*)$": ("302 302 302 404", "302 302 302 404"),
}

# What Ada may do with the rows of a model in the admin; everybody may look who may come in at all.
ADMIN = {
    "chat/price": {"add"},
    "chat/budget": {"add", "change", "delete"},
    "chat/budgetrequest": {"add", "change", "delete"},
    "chat/budgetperiod": set(),
    "chat/usagerecord": set(),
    "chat/ledgerentry": set(),
    "chat/budgetwarning": set(),
    "chat/alarm": set(),
    "chat/turn": set(),
    "chat/user": {"add", "change", "delete"},
    "auth/group": {"add", "change", "delete"},
    "account/emailaddress": {"add", "change", "delete"},
}


def every_route() -> list[str]:
    return list(_routes(get_resolver()))


def model_of(route: str) -> str | None:
    """For a route of the admin that belongs to a model: which, as in ADMIN."""
    match = re.match("admin/((?!spend/)[a-z]+/[a-z]+)/", route)
    return match[1] if match else None


def expected(route: str) -> dict[str, dict[str, set[int]]] | None:
    """{"get": {"alice": {200}, …}, "post": …}, or None for a route that nobody has thought about."""
    if model := model_of(route):
        if model not in ADMIN:
            return None
        get, post = _admin_statuses(route, ADMIN[model])
    elif route in ROUTES:
        get, post = ROUTES[route]
    else:
        return None
    return {"get": _by_person(get), "post": _by_person(post)}


def _admin_statuses(route: str, allowed: set[str]) -> tuple[str, str]:
    """Nobody but Ada comes in; 302 for her is the redirect of an address without `change/`."""
    verb = route.rstrip("/").rpartition("/")[2]
    match verb:
        case "add" | "delete":
            get = post = 200 if verb in allowed else 403
        case "change" | "password":
            get, post = 200, (200 if "change" in allowed else 403)
        case "<path:object_id>":
            get = post = 302
        case _:
            get = post = 200
    return f"302 302 302 {get}", f"302 302 302 {post}"


def _by_person(statuses: str) -> dict[str, set[int]]:
    columns = [{int(status) for status in column.split("|")} for column in statuses.split()]
    return dict(zip(PEOPLE, columns, strict=True))


def _routes(resolver: URLResolver, prefix: str = ""):
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route
        else:
            yield from _routes(pattern, route)
