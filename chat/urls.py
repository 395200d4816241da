"""The site's table of contents. config/urls.py adds the accounts and the admin."""

from django.urls import path

from chat.views import conversations, exports, health, requests, spend, turns, warnings

urlpatterns = [
    path("", conversations.home, name="home"),
    path("conversations/", conversations.conversation_list, name="conversation-list"),
    path("conversations/<uuid:conversation_id>/", conversations.conversation, name="conversation"),
    path("conversations/<uuid:conversation_id>/messages/", conversations.message_list, name="message-list"),
    path(
        "conversations/<uuid:conversation_id>/title/",
        conversations.conversation_title,
        name="conversation-title",
    ),
    path(
        "conversations/<uuid:conversation_id>/settings/",
        conversations.conversation_settings,
        name="conversation-settings",
    ),
    path(
        "conversations/<uuid:conversation_id>/deletion/",
        conversations.conversation_deletion,
        name="conversation-deletion",
    ),
    path("turns/<uuid:turn_id>/stream/", turns.turn_stream, name="turn-stream"),
    path("turns/<uuid:turn_id>/stop/", turns.turn_stop, name="turn-stop"),
    path("turns/<uuid:turn_id>/retries/", turns.turn_retries, name="turn-retries"),
    path("spend/", spend.own_spend, name="spend"),
    path("spend/limit/", spend.own_limit, name="own-limit"),
    path("spend/requests/", requests.budget_request, name="budget-request"),
    path(
        "spend/requests/<int:request_id>/withdrawal/",
        requests.budget_request_withdrawal,
        name="budget-request-withdrawal",
    ),
    path("spend/requests/<int:request_id>/dismissal/", warnings.request_dismissal, name="request-dismissal"),
    path("spend/warnings/<int:warning_id>/dismissal/", warnings.warning_dismissal, name="warning-dismissal"),
    path("spend/calls.csv", exports.own_calls, name="spend-calls-csv"),
    path("healthz", health.alive, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
]
