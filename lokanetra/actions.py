"""Pages of the console that change something: a form, a confirmation, and the change."""

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
    """What staff fill in, always with a reason. `key` is created with the page: sent twice, the change is made once."""

    reason = forms.CharField(
        max_length=LONGEST_REASON, validators=[lines], widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    key = forms.RegexField(r"\A[0-9a-f]{32}\Z", widget=forms.HiddenInput)

    def answers(self) -> dict[str, str]:
        """What was filled in, as people read it. The placeholder says what an empty field means."""
        return {str(field.label): _display(field) for field in self.visible_fields()}


def _display(field: forms.BoundField) -> str:
    labels = {str(value): label for value, label in getattr(field.field, "choices", [])}
    display = getattr(field.field, "display_value", lambda value: labels.get(value, value))
    value = field.value()
    return (display(value) if value else labels.get("")) or field.field.widget.attrs.get("placeholder", "")


def action_page(
    request: HttpRequest,
    admin: ModelAdmin,
    row: Model,
    *,
    title: str,
    facts: dict[str, Any],
    form_class: type[ActionForm],
    do: Callable[..., str | HttpResponse],
    back: str,
    initial: dict[str, Any] | None = None,
) -> HttpResponse:
    """Show the form; when it is filled in, ask for confirmation; when that is given, do it.

    `do` is called with the form's fields and returns the message to show, or a page of its own; a broken rule is shown
    above the form.
    """
    form = form_class(request.POST or None, initial={"key": uuid4().hex, **(initial or {})})
    filled_in = request.method == "POST" and "edit" not in request.POST and form.is_valid()
    if filled_in and "confirmed" in request.POST:
        try:
            return _finished(do(**form.cleaned_data), request, back)
        except Problem as refused:
            form.add_error(None, str(refused.detail))
            filled_in = False
    context = admin.admin_site.each_context(request) | {
        "opts": admin.opts,
        "original": row,
        "title": title,
        "facts": facts,
        "form": form,
        "confirm": filled_in,
        "back": back,
    }
    return TemplateResponse(request, "admin/action.html", context)


def _finished(result: str | HttpResponse, request: HttpRequest, back: str) -> HttpResponse:
    if isinstance(result, HttpResponse):
        return result
    messages.success(request, result)
    return HttpResponseRedirect(back)


def show_secret(request: HttpRequest, admin: ModelAdmin, *, title: str, about: str, secret: str) -> HttpResponse:
    """Shows the secret in this answer only: a message would be stored, and a redirect would lose it."""
    context = admin.admin_site.each_context(request) | {"opts": admin.opts, "title": title}
    return TemplateResponse(request, "admin/secret.html", context | {"about": about, "secret": secret})


class ShownOnce:
    """After the form of a new thing comes the page of its secret, so there is one button to save it."""

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        alone = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, (extra_context or {}) | alone)  # type: ignore[misc]


def visible_or_404(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The object of the page, if it exists and the caller may see it. Raises Http404."""
    found = admin.get_object(request, object_id)
    if found is None or not admin.has_view_permission(request, found):
        raise Http404
    return found


def current_account(request: HttpRequest) -> Any:
    """The account of the caller: the console lets nobody in without one."""
    return request.user
