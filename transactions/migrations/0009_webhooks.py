"""Who hears of events, and what became of each delivery. A delivery is rewritten a few times before it rests: on
PostgreSQL its table is swept often, so that who looks for what is due passes over little that is not."""

import django.db.models.deletion
from django.db import migrations, models

import lokanetra.encrypted
from lokanetra.online import is_postgresql

OFTEN = "autovacuum_vacuum_scale_factor = 0.02"


def sweep_often(apps, schema_editor):
    if is_postgresql(schema_editor):
        schema_editor.execute(f"ALTER TABLE transactions_delivery SET ({OFTEN})")


class Migration(migrations.Migration):
    dependencies = [("transactions", "0008_events")]

    operations = [
        migrations.CreateModel(
            name="Webhook",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("url", models.CharField(max_length=2000, verbose_name="URL")),
                ("types", models.JSONField()),
                ("secret", lokanetra.encrypted.EncryptedField()),
                ("old_secret", lokanetra.encrypted.EncryptedField(null=True)),
                ("old_secret_until", models.DateTimeField(null=True)),
                ("is_active", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("failing_since", models.DateTimeField(null=True)),
                ("switched_off_at", models.DateTimeField(null=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[("PENDING", "Pending"), ("DELIVERED", "Delivered"), ("FAILED", "Failed")],
                        default="PENDING",
                        max_length=9,
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_at", models.DateTimeField(null=True)),
                ("sent_at", models.DateTimeField(null=True)),
                ("answer_status", models.PositiveSmallIntegerField(null=True)),
                ("answer", models.TextField(blank=True)),
                ("seconds", models.FloatField(null=True)),
                (
                    "event",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="transactions.event",
                    ),
                ),
                (
                    "webhook",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deliveries",
                        to="transactions.webhook",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["webhook", "-id"], name="transactions_delivery_of"),
                    models.Index(
                        condition=models.Q(("status", "PENDING")),
                        fields=["webhook", "next_at", "id"],
                        name="transactions_delivery_due",
                    ),
                    models.Index(
                        condition=models.Q(("status", "FAILED")),
                        fields=["webhook", "id"],
                        name="transactions_delivery_failed",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("event", "webhook"), name="transactions_delivery_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("next_at__isnull", False), ("status", "PENDING")),
                            models.Q(("next_at", None), ("status__in", ["DELIVERED", "FAILED"])),
                            _connector="OR",
                        ),
                        name="transactions_delivery_pending_has_time",
                    ),
                ],
            },
        ),
        migrations.RunPython(sweep_often, migrations.RunPython.noop),
    ]
