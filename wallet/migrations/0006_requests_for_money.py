"""Requests for money, and their idempotency keys.

The new table is empty, and the table of keys gets a column that no row is rewritten for. On SQLite it is made anew,
and its triggers with it.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q

import wallet.money
from lokanetra import online

SQLITE = [
    f"""
    CREATE TRIGGER IF NOT EXISTS wallet_key_no_{verb} BEFORE {verb} ON wallet_key
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
    """
    for verb in ("update", "delete")
]
FORGET = "DELETE FROM wallet_key WHERE request_id IS NOT NULL"


def forbid(apps, schema_editor):
    if not online.is_postgresql(schema_editor):
        for statement in SQLITE:
            schema_editor.execute(statement)


def forget(apps, schema_editor):
    """On the way back the keys of requests go with these."""
    if online.is_postgresql(schema_editor):
        schema_editor.execute("ALTER TABLE wallet_key DISABLE TRIGGER wallet_key_append_only")
        schema_editor.execute(FORGET)
        schema_editor.execute("ALTER TABLE wallet_key ENABLE TRIGGER wallet_key_append_only")
    else:
        schema_editor.execute("DROP TRIGGER wallet_key_no_delete")
        schema_editor.execute(FORGET)


def of(model):
    return models.ForeignKey(to=model, on_delete=django.db.models.deletion.PROTECT, related_name="+", db_index=False)


class Migration(migrations.Migration):
    dependencies = [
        ("transactions", "0011_events_of_requests"),
        ("wallet", "0005_count_this_month"),
    ]

    operations = [
        online.SHORT_LOCKS,
        migrations.RunPython(migrations.RunPython.noop, forbid, elidable=False),
        migrations.CreateModel(
            name="PaymentRequest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount", wallet.money.MoneyField()),
                ("remarks", models.CharField(blank=True, max_length=255)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("closed_at", models.DateTimeField(null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("PENDING", "Pending"),
                            ("PAID", "Paid"),
                            ("DECLINED", "Declined"),
                            ("CANCELLED", "Cancelled"),
                            ("EXPIRED", "Expired"),
                        ],
                        default="PENDING",
                        max_length=9,
                    ),
                ),
                ("payer", of("wallet.wallet")),
                ("requester", of("wallet.wallet")),
                (
                    "transaction",
                    models.OneToOneField(
                        to="transactions.transaction",
                        on_delete=django.db.models.deletion.PROTECT,
                        null=True,
                        related_name="+",
                    ),
                ),
            ],
            options={
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["payer", "-id"], name="wallet_request_by_payer"),
                    models.Index(fields=["requester", "-id"], name="wallet_request_by_requester"),
                    models.Index(
                        fields=["requester", "payer", "expires_at"],
                        name="wallet_request_open",
                        condition=Q(status="PENDING"),
                    ),
                    models.Index(fields=["expires_at"], name="wallet_request_due", condition=Q(status="PENDING")),
                ],
                "constraints": [
                    models.CheckConstraint(name="wallet_paymentrequest_amount_positive", condition=Q(amount__gt=0)),
                    models.CheckConstraint(
                        name="wallet_paymentrequest_two_wallets", condition=~Q(payer=F("requester"))
                    ),
                    models.CheckConstraint(
                        name="wallet_paymentrequest_ends_after_it_began", condition=Q(expires_at__gt=F("created_at"))
                    ),
                    models.CheckConstraint(
                        name="wallet_paymentrequest_closed_or_pending",
                        condition=Q(status="PENDING", closed_at=None, transaction=None)
                        | Q(status="PAID", closed_at__isnull=False, transaction__isnull=False)
                        | Q(
                            status__in=["DECLINED", "CANCELLED", "EXPIRED"],
                            closed_at__isnull=False,
                            transaction=None,
                        ),
                    ),
                ],
            },
        ),
        migrations.RemoveConstraint("key", "wallet_key_of_one_thing"),
        migrations.AddField(
            "key",
            "request",
            models.ForeignKey(
                "wallet.paymentrequest",
                django.db.models.deletion.PROTECT,
                null=True,
                related_name="+",
                db_index=False,
            ),
        ),
        online.AddConstraint(
            "key",
            models.CheckConstraint(
                name="wallet_key_of_one_thing",
                condition=Q(transaction__isnull=False, hold=None, request=None)
                | Q(transaction=None, hold__isnull=False, request=None)
                | Q(transaction=None, hold=None, request__isnull=False),
            ),
        ),
        migrations.RunPython(forbid, forget, elidable=False),
    ]
