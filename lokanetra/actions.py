"""Pages of the console that do something: a form, a look at what was filled in, and the deed."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

from lokanetra.errors import Problem
from lokanetra.texts import lines

LONGEST_REASON = 255


class ActionForm(forms.Form):
    """What staff fill in, a reason above all. `key` is made with the page: sent twice, the deed is done once."""

    reason = forms.CharField(
        max_length=LONGEST_REASON, validators=[lines], widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    key = forms.RegexField(r"\A[0-9a-f]{32}\Z", widget=forms.HiddenInput)


def answer(
    request: HttpRequest,
    admin: ModelAdmin,
    on: Model,
    *,
    title: str,
    facts: dict[str, Any],
    form_class: type[ActionForm],
    do: Callable[..., str],
    back: str,
) -> HttpResponse:
    """Show the form; when it is filled in, show it back and ask; when that is confirmed, do it.

    `do` is called with the form's fields and returns what to tell; a broken rule is told above the form.
    """
    form = form_class(request.POST or None, initial={"key": uuid4().hex})
    filled_in = request.method == "POST" and "edit" not in request.POST and form.is_valid()
    if filled_in and "confirmed" in request.POST:
        try:
            messages.success(request, do(**form.cleaned_data))
            return HttpResponseRedirect(back)
        except Problem as refused:
            form.add_error(None, str(refused.detail))
            filled_in = False
    context = admin.admin_site.each_context(request) | {
        "opts": admin.opts,
        "original": on,
        "title": title,
        "facts": facts,
        "form": form,
        "asks": filled_in,
        "back": back,
    }
    return TemplateResponse(request, "admin/action.html", context)


def existing(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """What the page is about, if there is such a thing and the caller may see it. Raises Http404."""
    found = admin.get_object(request, object_id)
    if found is None or not admin.has_view_permission(request, found):
        raise Http404
    return found


def acting(request: HttpRequest) -> Any:
    """The account that does it: the console lets nobody in without one."""
    return request.user
