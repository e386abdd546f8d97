"""What all pages of the console share."""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.admin import ShowFacets, site
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import BadRequest, FieldDoesNotExist, ValidationError
from django.core.paginator import InvalidPage, Paginator
from django.db.models import CharField, Field, Model, QuerySet, TextField
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.sites import UnfoldAdminSite
from unfold.views import ChangeList

from lokanetra.filters import Moment
from lokanetra.pagination import MAX_ROWS, capped_count
from lokanetra.texts import one_line

# The models of the sidebar, in its order, with their Material symbols.
ICONS = {
    "UserProfile": "person",
    "Wallet": "account_balance_wallet",
    "Transaction": "swap_horiz",
    "Hold": "lock_clock",
    "PaymentRequest": "request_quote",
    "Tier": "speed",
    "OTP": "password",
    "Login": "devices",
    "ApiKey": "key",
    "Webhook": "webhook",
    "Delivery": "send",
    "Group": "group",
    "LedgerCheck": "fact_check",
    "LogEntry": "history",
}

# The heading of a column of times.
TIME = f"time ({settings.TIME_ZONE})"


def short_time(moment: datetime, clock: str = "%H:%M") -> str:
    """Day and time, for a cell of such a column: it breaks into two lines where there is little room."""
    local = timezone.localtime(moment)
    return " ".join(f"{local:{form}}".replace(" ", "\N{NO-BREAK SPACE}") for form in ("%d %b %Y", clock))


def exact_time(moment: datetime) -> str:
    """To the second."""
    return short_time(moment, "%H:%M:%S")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The entries of the sidebar that the user may see."""
    models = {model["object_name"]: model for app in site.get_app_list(request) for model in app["models"]}
    links = [
        {"title": models[name]["name"], "link": models[name]["admin_url"], "icon": icon}
        for name, icon in ICONS.items()
        if name in models
    ]
    return [{"items": links}]


def documentation(request: HttpRequest) -> str:
    """Where the console's link to the outside leads."""
    return reverse("swagger")


def style(request: HttpRequest) -> str:
    return static("console.css")


def script(request: HttpRequest) -> str:
    return static("console.js")


def link(row: Model, text: Any) -> str:
    """To the row's own page."""
    return link_to(change_page(row), text)


def change_page(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def link_to(page: str, text: Any) -> str:
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', page, text)


# What Django's and Unfold's pages raise when a parameter names no field or no page, or is too large a number.
UNREADABLE = (FieldDoesNotExist, InvalidPage, OverflowError)


class Console(UnfoldAdminSite):
    """A parameter that its pages cannot read is a 400. Service accounts are not let in."""

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not getattr(request.user, "is_service", False)

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        @wraps(view)
        def readable(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                return view(request, *args, **kwargs)
            except UNREADABLE as error:
                raise BadRequest("A parameter cannot be read.") from error

        return super().admin_view(readable, cacheable)


class CappedPaginator(Paginator):
    """Counts only as many rows as can be paged through."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return capped_count(rows, MAX_ROWS) if isinstance(rows, QuerySet) else len(rows)


class ConsoleChangeList(ChangeList):
    """A list that is not filtered does not offer to show everything."""

    full_result_count: int | None

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not (self.query or self.has_active_filters):
            self.full_result_count = self.result_count


class StrictRange:
    """For the range filters of lists: a limit that cannot be read redirects to the list, with an error."""

    used_parameters: dict[str, Any]
    parameter_name: str

    def read(self, text: str | None) -> Any:
        """The least and the greatest value that the text means; None for an empty one. Raises ValidationError."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        since, until = self._limit("from"), self._limit("to")
        if since:
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": since[0]})
        if until:
            queryset = queryset.filter(**{f"{self.parameter_name}__lte": until[1]})
        return queryset

    def _limit(self, end: str) -> Any:
        try:
            return self.read(self.used_parameters.get(f"{self.parameter_name}_{end}"))
        except ValidationError as error:
            raise IncorrectLookupParameters from error


class MomentRangeFilter(StrictRange, RangeDateFilter):
    """From one day or time up to and including another."""

    def read(self, text: str | None) -> Any:
        return Moment().to_python(text)


class ConsoleAdmin(ModelAdmin):
    """Lists that stay fast however long they are, and reveal only what they show."""

    paginator: Any = CappedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    actions: Any = None

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> Any:
        """Texts are one line of visible characters."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(db_field, (CharField, TextField)):
            field.validators.append(one_line)
        return field

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ConsoleChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only the filters of the list: any other column could be guessed letter by letter."""
        allowed = {name for entry in self.list_filter for name in _parameters(entry)}
        return lookup in allowed and "\0" not in value and super().lookup_allowed(lookup, value, request)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, term: str) -> tuple[QuerySet, bool]:
        return (self.search(queryset, term) if term and self.search_fields else queryset), False

    def search(self, rows: Any, text: str) -> QuerySet:
        return rows.matching(text)


def _parameters(entry: Any) -> list[str]:
    """The possible parameter names of one filter of a list."""
    if hasattr(entry, "parameter_name"):
        return [entry.parameter_name]
    if isinstance(entry, str):
        return [f"{entry}__exact", f"{entry}__id__exact", f"{entry}__isnull"]
    return [f"{entry[0]}_from", f"{entry[0]}_to"]  # filters with a class of their own are ranges


class ReadOnlyAdmin(ConsoleAdmin):
    """Rows that nobody adds, changes or deletes here, not even superusers."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
