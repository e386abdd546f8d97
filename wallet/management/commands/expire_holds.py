"""Closes expired holds. They are expired without it: it updates their rows and their payers'."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Count, Min
from tqdm import tqdm

from lokanetra import database
from lokanetra.errors import ServerBusy
from lokanetra.plurals import how_many
from wallet import holds
from wallet.models import Hold


def expire(*, progress: bool = False) -> int:
    """Close the expired holds, the oldest first. Returns how many. Those of a busy wallet wait for the next run.

    Raises ServerBusy when the database is away.
    """
    due = Hold.objects.due().order_by().values("payer").annotate(oldest=Min("expires_at"), number=Count("pk"))
    found = list(due.order_by("oldest").values_list("payer", "number"))
    # None: a bar on a terminal only.
    bar = tqdm(found, unit="wallet", disable=None if progress else True)
    return sum(number for payer, number in bar if _expire(payer))


def _expire(payer: int) -> bool:
    try:
        holds.expire(wallet_id=payer)
    except ServerBusy as fault:
        if fault.__cause__ is None or not database.is_conflict(fault.__cause__):
            raise
        return False
    return True


class Command(BaseCommand):
    help = "Close the expired holds, wallet by wallet, the oldest first."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(self.style.SUCCESS(f"{how_many(expire(progress=True), 'hold')} closed."))
