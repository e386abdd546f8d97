"""What the pages of people, wallets, holds, requests and transactions in the console share: the owner of a wallet, its
tables, and who may do what."""

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

# Transactions, holds and requests on a page.
NEWEST = 10
# Statements there; the API has those of other days.
MONTHS = 12


def money(name: str, description: str = "", ordering: str | None = None) -> Any:
    """A column that shows an amount with its sign, without line breaks: the field or property of that name."""

    @display(description=description or name.replace("_", " "), ordering=ordering)
    def shown(self: Any, row: Any) -> str | None:
        amount = getattr(row, name)
        return None if amount is None else rupees(amount).replace(" ", "\N{NO-BREAK SPACE}")

    return shown


class MoneyAdmin(ReadOnlyAdmin):
    """Read-only, but for the actions, which need rights."""

    change_form_after_template = "admin/tables.html"
    list_filter_submit = True
    ordering: Any = ("-id",)

    def has_adjust_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(MayAdjust.right)

    def has_manage_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(MayChange.right)


class StatusFilter(admin.SimpleListFilter):
    """By the present status of holds and requests, which expire without a change of their rows."""

    title = parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return model_admin.model.Status.choices

    def queryset(self, request: HttpRequest, rows: Any) -> QuerySet:
        status = self.value()
        if status and status not in rows.model.Status:
            raise IncorrectLookupParameters
        return rows.with_status(status) if status else rows


class ExpiringAdmin(MoneyAdmin):
    """Holds and requests for money."""

    list_filter = (StatusFilter, ("amount", AmountRangeFilter), ("created_at", MomentRangeFilter))
    sortable_by = ("id",)  # what there is an index for
    search_help_text = "How a username or phone number of either side begins, or the last digits of a phone."

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Accounts are read in a second query, for the rows of a page: with joins the database does not use its
        indexes."""
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
    """A link to the page of the person."""
    return link(wallet.user, owner(wallet)) if wallet else owner(wallet)


# --- The tables of a wallet -----------------------------------------------------------------------------


def history_url(wallet: Wallet) -> str:
    """The page with the wallet's transactions."""
    return f"{reverse('admin:transactions_transaction_changelist')}?wallet={wallet.pk}"


def tables(wallet: Wallet, may: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """The tables on the page of a wallet and of its owner, as far as the user may see them."""
    if may("wallet.view_hold"):
        rows = [_hold(hold) for hold in Hold.objects.newest_open_of(wallet, NEWEST)]
        headers = ["id", TIME, "other side", "remaining", "expires"]
        yield {"title": "Open holds", "headers": headers, "rows": rows}
    if may("wallet.view_paymentrequest"):
        rows = [_request(payment_request) for payment_request in PaymentRequest.objects.newest_open_of(wallet, NEWEST)]
        headers = ["id", TIME, "other side", "amount", "expires"]
        yield {"title": "Open requests for money", "headers": headers, "rows": rows}
    if may("transactions.view_transaction"):
        rows = [_transaction(row) for row in Transaction.objects.newest_of(wallet, NEWEST)]
        every = link_to(history_url(wallet), "All of this wallet's transactions")
        headers = ["id", TIME, "other side", "amount", "balance"]
        yield {"title": "Last transactions", "headers": headers, "rows": rows, "every": every}
        yield {"title": "Statements", "headers": ["month", "", ""], "rows": list(_statements(wallet))}


def _statements(wallet: Wallet) -> Iterator[list[Any]]:
    """The statements of the last months, newest first, back to the month in which the wallet was created."""
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


def _request(payment_request: Any) -> list[Any]:
    other = payment_request.requester if payment_request.direction == "OUT" else payment_request.payer
    amount = _signed(payment_request.direction, payment_request.amount)
    return [
        link(payment_request, payment_request.pk),
        short_time(payment_request.created_at),
        owner_link(other),
        amount,
        short_time(payment_request.expires_at),
    ]


def _transaction(row: Any) -> list[Any]:
    amount = _signed(row.direction, row.amount)
    return [link(row, row.pk), short_time(row.timestamp), row.counterparty or "outside", amount, rupees(row.balance)]


def _signed(direction: str, amount: Decimal) -> str:
    return f"{'−' if direction == 'OUT' else '+'}{rupees(amount)}"  # noqa: RUF001
