from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from chat import search
from chat.forms import SearchForm
from chat.http import SignedInRequest


@login_required
@require_safe
def search_page(request: SignedInRequest) -> HttpResponse:
    """`?q=` in all of one's own conversations; for htmx the hits alone, for the sidebar. Whatever is asked, it is never
    an error: at worst nothing is found."""
    form = SearchForm(request.GET)
    form.is_valid()
    query = form.cleaned_data.get("q", "")
    found = search.search(request.user, query, form.cleaned_data.get("before"))
    context = {"query": query, "found": found, "is_whole": form.cleaned_data.get("before") is None}
    return render(request, "chat/search.html#found" if request.htmx else "chat/search.html", context)
