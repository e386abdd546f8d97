"""Requests for money have events too. The database is not asked: types are text there."""

from django.db import migrations, models

TYPES = [
    ("transaction.created", "Transaction Created"),
    ("hold.opened", "Hold Opened"),
    ("hold.captured", "Hold Captured"),
    ("hold.voided", "Hold Voided"),
    ("hold.expired", "Hold Expired"),
    ("request.created", "Request Created"),
    ("request.paid", "Request Paid"),
    ("request.declined", "Request Declined"),
    ("request.cancelled", "Request Cancelled"),
    ("request.expired", "Request Expired"),
    ("wallet.created", "Wallet Created"),
    ("wallet.frozen", "Wallet Frozen"),
    ("wallet.unfrozen", "Wallet Unfrozen"),
    ("user.deactivated", "User Deactivated"),
]


class Migration(migrations.Migration):
    dependencies = [("transactions", "0010_events_by_type")]

    operations = [
        migrations.AlterField("event", "type", models.CharField(max_length=32, choices=TYPES)),
        migrations.AlterField("outbox", "type", models.CharField(max_length=32, choices=TYPES)),
    ]
