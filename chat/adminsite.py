from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.urls import path


class Site(admin.AdminSite):
    """Django's admin with the spend page in it."""

    site_header = site_title = "Tally"
    index_title = "Administration"
    site_url = None  # the pages' own header leads back to the chat

    def get_urls(self):
        # The registry of models is not filled when a site is made.
        from chat.admin import decisions
        from chat.admin.books import books
        from chat.admin.corrections import correction
        from chat.admin.spend import spend
        from chat.views import exports

        return [
            path("spend/", self.admin_view(spend), name="spend"),
            path(
                "spend/requests/<int:request_id>/grant/", self.admin_view(decisions.request_grant), name="request-grant"
            ),
            path(
                "spend/requests/<int:request_id>/decline/",
                self.admin_view(decisions.request_decline),
                name="request-decline",
            ),
            path("spend/requests/<int:request_id>/undo/", self.admin_view(decisions.request_undo), name="request-undo"),
            path("spend/people/<int:user_id>/limit/", self.admin_view(decisions.person_limit), name="person-limit"),
            path("spend/books/", self.admin_view(books), name="spend-books"),
            path("spend/people.csv", self.admin_view(exports.people), name="spend-people-csv"),
            path("spend/calls.csv", self.admin_view(exports.calls), name="spend-calls-csv"),
            path("spend/ledger.csv", self.admin_view(exports.ledger), name="spend-ledger-csv"),
            path("spend/calls/<uuid:record_id>/correction/", self.admin_view(correction), name="call-correction"),
            *super().get_urls(),
        ]


class TallyAdminConfig(AdminConfig):
    default_site = "chat.adminsite.Site"
