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

    def answers(self) -> dict[str, str]:
        """What was filled in, as people read it. What an empty field stands for is its placeholder."""
        return {str(field.label): _told(field) for field in self.visible_fields()}


def _told(field: forms.BoundField) -> str:
    labels = {str(value): label for value, label in getattr(field.field, "choices", [])}
    told = getattr(field.field, "display_value", lambda value: labels.get(value, value))
    value = field.value()
    return (told(value) if value else labels.get("")) or field.field.widget.attrs.get("placeholder", "")


def answer(
    request: HttpRequest,
    admin: ModelAdmin,
    on: Model,
    *,
    title: str,
    facts: dict[str, Any],
    form_class: type[ActionForm],
    do: Callable[..., str | HttpResponse],
    back: str,
    initial: dict[str, Any] | None = None,
) -> HttpResponse:
    """Show the form; when it is filled in, show it back and ask; when that is confirmed, do it.

    `do` is called with the form's fields and returns what to tell, or the page that tells it; a broken rule is told
    above the form.
    """
    form = form_class(request.POST or None, initial={"key": uuid4().hex, **(initial or {})})
    filled_in = request.method == "POST" and "edit" not in request.POST and form.is_valid()
    if filled_in and "confirmed" in request.POST:
        try:
            return _told_of(do(**form.cleaned_data), request, back)
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


def _told_of(deed: str | HttpResponse, request: HttpRequest, back: str) -> HttpResponse:
    if isinstance(deed, HttpResponse):
        return deed
    messages.success(request, deed)
    return HttpResponseRedirect(back)


def show_secret(request: HttpRequest, admin: ModelAdmin, *, title: str, about: str, secret: str) -> HttpResponse:
    """The secret stands in this answer, and nowhere else: a message would be stored, and a redirect forget it."""
    context = admin.admin_site.each_context(request) | {"opts": admin.opts, "title": title}
    return TemplateResponse(request, "admin/secret.html", context | {"about": about, "secret": secret})


def existing(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """What the page is about, if there is such a thing and the caller may see it. Raises Http404."""
    found = admin.get_object(request, object_id)
    if found is None or not admin.has_view_permission(request, found):
        raise Http404
    return found


def acting(request: HttpRequest) -> Any:
    """The account that does it: the console lets nobody in without one."""
    return request.user
