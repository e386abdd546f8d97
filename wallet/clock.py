"""The time of all that the ledger writes: the database's, because the clocks of servers differ. SQLite uses the
server's."""

from contextvars import ContextVar
from datetime import date, datetime, timedelta

from django.utils import timezone

from lokanetra import days
from lokanetra.database import is_postgresql
from lokanetra.prepared import rows_of


class Clock:
    """An estimate of the database's clock. A payment is counted on the day of its row, by the clock of the database; if
    that is another day than estimated, it is repeated, and its wallets' time is read from the database first."""

    # In PostgreSQL's SQL.
    sql = "clock_timestamp()"
    offset = timedelta(0)

    def __init__(self) -> None:
        self.wrong: ContextVar[bool] = ContextVar("wrong", default=False)

    def today(self) -> date:
        return days.day_of(timezone.now() + self.offset)

    def now(self) -> datetime:
        """The time, read from the database."""
        return rows_of(f"SELECT {self.sql}", [])[0][0] if is_postgresql() else timezone.now()

    def doubt(self) -> None:
        """Called when this request's estimate was wrong."""
        self.wrong.set(True)

    def correct(self, moment: datetime) -> None:
        self.offset = moment - timezone.now()
        self.wrong.set(False)


clock = Clock()
