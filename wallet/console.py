"""What the pages of people, wallets, holds, requests and transactions in the console share: whose a wallet is, what is
told of it, and who may do what."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from unfold.decorators import display

from lokanetra import days
from lokanetra.admin import TIME, MomentRangeFilter, ReadOnlyAdmin, link, link_to, short_time
from transactions.models import Transaction
from transactions.statement_files import STAFF_FILES
from wallet.filters import AmountRangeFilter
from wallet.models import Expiring, Hold, PaymentRequest, Wallet
from wallet.money import rupees
from wallet.permissions import MayAdjust, MayChange

# Transactions, and holds, that a page tells of.
NEWEST = 10
# Statements there; of other days they are had by the API.
MONTHS = 12


def money(name: str, description: str = "", ordering: str | None = None) -> Any:
    """The column of an amount as people read it, in one line: a field, or a property, of that name."""

    @display(description=description or name.replace("_", " "), ordering=ordering)
    def shown(self: Any, row: Any) -> str | None:
        amount = getattr(row, name)
        return None if amount is None else rupees(amount).replace(" ", "\N{NO-BREAK SPACE}")

    return shown


class MoneyAdmin(ReadOnlyAdmin):
    """To look at; who has the rights does with it what the actions are."""

    change_form_after_template = "admin/tables.html"
    list_filter_submit = True
    ordering: Any = ("-id",)

    def has_adjust_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(MayAdjust.right)

    def has_manage_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(MayChange.right)


class StatusFilter(admin.SimpleListFilter):
    """By what things that expire are at this moment."""

    title = parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return model_admin.model.Status.choices

    def queryset(self, request: HttpRequest, rows: Any) -> QuerySet:
        status = self.value()
        if status and status not in rows.model.Status:
            raise IncorrectLookupParameters
        return rows.with_status(status) if status else rows


class ExpiringAdmin(MoneyAdmin):
    """What is open between a payer and another wallet until its time."""

    list_filter = (StatusFilter, ("amount", AmountRangeFilter), ("created_at", MomentRangeFilter))
    sortable_by = ("id",)  # what there is an index for
    search_help_text = "How a username or phone number of either side begins, or the last digits of a phone."

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Names are read for the rows of a page alone: joined, they cost the database its indexes."""
        return super().get_queryset(request).prefetch_related(*(f"{side}__user" for side in self.model.SIDES))

    @display(description="payer")
    def paid_by(self, row: Expiring) -> str:
        return owner_link(row.payer)

    @display(description="created")
    def created(self, row: Expiring) -> str:
        return short_time(row.created_at)

    @display(description="expires")
    def expires(self, row: Expiring) -> str:
        return short_time(row.expires_at)

    @display(description="ended")
    def ended(self, row: Expiring) -> str | None:
        return short_time(row.ended_at) if row.ended_at else None


def owner(wallet: Wallet | None) -> str:
    if wallet is None:
        return "outside"
    return f"{wallet.user.username} ({wallet.user.phone})" if wallet.user.phone else wallet.user.username


def owner_link(wallet: Wallet | None) -> str:
    """To the page of the person."""
    return link(wallet.user, owner(wallet)) if wallet else owner(wallet)


# --- What is told of a wallet ---------------------------------------------------------------------------


def history_url(wallet: Wallet) -> str:
    """The list of the wallet's transactions."""
    return f"{reverse('admin:transactions_transaction_changelist')}?wallet={wallet.pk}"


def tables(wallet: Wallet, may: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """What the page of a wallet, and that of who has it, tells of it: to each what he may see."""
    if may("wallet.view_hold"):
        rows = [_hold(hold) for hold in Hold.objects.newest_open_of(wallet, NEWEST)]
        headers = ["id", TIME, "other side", "remaining", "expires"]
        yield {"title": "Open holds", "headers": headers, "rows": rows}
    if may("wallet.view_paymentrequest"):
        rows = [_request(asked) for asked in PaymentRequest.objects.newest_open_of(wallet, NEWEST)]
        headers = ["id", TIME, "other side", "amount", "expires"]
        yield {"title": "Open requests for money", "headers": headers, "rows": rows}
    if may("transactions.view_transaction"):
        rows = [_transaction(row) for row in Transaction.objects.newest_of(wallet, NEWEST)]
        every = link_to(history_url(wallet), "All of this wallet's transactions")
        headers = ["id", TIME, "other side", "amount", "balance"]
        yield {"title": "Last transactions", "headers": headers, "rows": rows, "every": every}
        yield {"title": "Statements", "headers": ["month", "", ""], "rows": list(_statements(wallet))}


def _statements(wallet: Wallet) -> Iterator[list[Any]]:
    """The statements of the last months, newest first, down to the one in which the wallet was made."""
    month, oldest = days.month_of(days.today()), days.month_of(days.day_of(wallet.created_at))
    for _ in range(MONTHS):
        page = f"{reverse('wallet-admin-statement', args=[wallet.pk])}?month={month:%Y-%m}"
        yield [f"{month:%B %Y}", *(link_to(f"{page}&format={kind}", kind.upper()) for kind in STAFF_FILES)]
        month = days.month_of(month - timedelta(days=1))
        if month < oldest:
            return


def _hold(hold: Any) -> list[Any]:
    other = hold.payee if hold.direction == "OUT" else hold.payer
    remaining = _signed(hold.direction, hold.remaining)
    return [link(hold, hold.pk), short_time(hold.created_at), owner_link(other), remaining, short_time(hold.expires_at)]


def _request(asked: Any) -> list[Any]:
    other = asked.requester if asked.direction == "OUT" else asked.payer
    amount = _signed(asked.direction, asked.amount)
    return [
        link(asked, asked.pk),
        short_time(asked.created_at),
        owner_link(other),
        amount,
        short_time(asked.expires_at),
    ]


def _transaction(row: Any) -> list[Any]:
    amount = _signed(row.direction, row.amount)
    return [link(row, row.pk), short_time(row.timestamp), row.counterparty or "outside", amount, rupees(row.balance)]


def _signed(direction: str, amount: Decimal) -> str:
    return f"{'−' if direction == 'OUT' else '+'}{rupees(amount)}"  # noqa: RUF001
