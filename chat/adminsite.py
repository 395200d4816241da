from django.contrib import admin
from django.contrib.admin.apps import AdminConfig
from django.urls import path


class Site(admin.AdminSite):
    """Django's admin with the spend page in it."""

    site_header = site_title = "Tally"
    index_title = "Administration"
    site_url = None  # the pages' own header leads back to the chat

    def get_urls(self):
        from chat.admin.spend import spend  # the registry of models is not filled when a site is made

        return [path("spend/", self.admin_view(spend), name="spend"), *super().get_urls()]


class TallyAdminConfig(AdminConfig):
    default_site = "chat.adminsite.Site"
