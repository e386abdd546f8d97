"""The jobs of the worker, and the lane of each. The mechanics are in `lokanetra/work.py`."""

import logging
import sys
from functools import partial
from threading import Event
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from lokanetra import days, postgresql
from lokanetra.plurals import how_many
from lokanetra.work import Job, JobLane, Lane, Worker
from transactions import volumes
from transactions.deliveries import IDLE_SECONDS, Dispatcher
from transactions.management.commands.prune import prune
from wallet.management.commands import expire_holds, expire_requests
from wallet.management.commands.check_ledger import check, save_result
from wallet.models import Hold, LedgerCheck, PaymentRequest

logger = logging.getLogger("lokanetra.work")

# Seconds between two checks whether a job is due.
EXPIRY, NIGHTLY, HOURLY = 3.0, 30.0, 3600.0
# The log gets this many complaints; the command `check_ledger` prints all.
MAX_COMPLAINTS = 50


def lanes() -> dict[str, Lane]:
    """Each lane is a thread that runs a function of `(stop, once)`."""
    rounds = [
        JobLane(
            "expiry",
            [
                Job("expire_holds", close_holds, lambda: Hold.objects.due().exists(), EXPIRY),
                Job("expire_requests", close_requests, lambda: PaymentRequest.objects.due().exists(), EXPIRY),
            ],
        ),
        JobLane(
            "upkeep",
            [
                Job("close_days", close_days, lambda: bool(volumes.unsummed_days()), NIGHTLY),
                Job("prune", remove_stale, lambda: True, HOURLY),
                Job("check_ledger", check_books, is_check_due, NIGHTLY),
            ],
            patient=True,
        ),
    ]
    return {"deliveries": deliver, **{lane.name: lane for lane in rounds}}


def deliver(stop: Event, once: bool) -> bool:
    """Deliver without pause while something is due. At the end wait for deliveries in progress."""
    dispatcher = Dispatcher()
    chore = Job("deliver", partial(dispatcher.work, stop), lambda: True, IDLE_SECONDS, shared=True)
    try:
        return JobLane("deliveries", [chore])(stop, once)
    finally:
        dispatcher.finish()


def close_holds() -> str:
    closed = expire_holds.expire()
    return f"{how_many(closed, 'hold')} closed" if closed else ""


def close_requests() -> str:
    closed = expire_requests.expire()
    return f"{how_many(closed, 'request')} closed" if closed else ""


def close_days() -> str:
    """Each day is committed by itself, so an interruption loses no finished day."""
    unsummed_days = volumes.unsummed_days()
    for day in unsummed_days:
        volumes.close(day)
    return f"{how_many(len(unsummed_days), 'day')} summed"


def remove_stale() -> str:
    removed = {name: count for name, count in prune().items() if count}
    return ", ".join(how_many(count, name) for name, count in removed.items()) + " removed" if removed else ""


def is_check_due() -> bool:
    """Whether the books were not checked since the last `NIGHTLY_AT`."""
    return not LedgerCheck.objects.filter(ended_at__gte=days.last_time_at(settings.NIGHTLY_AT)).exists()


def check_books() -> str:
    report = check()
    save_result(report)
    complaints = report.complaints()
    for complaint in complaints[:MAX_COMPLAINTS]:
        logger.error("the books do not agree: %s", complaint)
    return f"{how_many(report.wallets, 'wallet')} checked, {how_many(len(complaints), 'complaint')}"


class Command(BaseCommand):
    help = (
        "Do what is due, until SIGTERM or SIGINT: deliver events to webhooks, close holds and requests for money that "
        "are over, sum the days that are over, remove expired codes, ended logins, old counters and old events every "
        "hour, and check the books every night (NIGHTLY_AT). Several workers may run at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="do what is due now and exit, with status 1 on failure")
        parser.add_argument("--with-parent", action="store_true", help="exit when the parent process ends")

    def handle(self, *args: Any, once: bool, with_parent: bool, **options: Any) -> None:
        postgresql.serve()
        if not Worker(lanes(), once=once, with_parent=with_parent).run() and once:
            sys.exit(1)
