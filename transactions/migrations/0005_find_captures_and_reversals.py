"""Indexes by which captures and reversals are found, and a look at the rows that there were. Nobody waits meanwhile."""

from django.db import migrations, models

from lokanetra import online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("transactions", "0004_captures")]

    operations = [
        online.ValidateConstraint("transaction", "transactions_transaction_capture_is_transfer"),
        online.AddIndex(
            "transaction",
            models.Index(
                fields=["reverses"], name="transactions_reversals", condition=models.Q(reverses__isnull=False)
            ),
        ),
        online.AddIndex(
            "transaction",
            models.Index(fields=["hold"], name="transactions_captures", condition=models.Q(hold__isnull=False)),
        ),
    ]
