"""Service accounts and their keys.

The column is added in SQL: for Django's own AddField SQLite would get a new table, without the indexes of 0002.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

ADD = "ALTER TABLE users_userprofile ADD COLUMN is_service bool NOT NULL DEFAULT false"
DROP = "ALTER TABLE users_userprofile DROP COLUMN is_service"


class Migration(migrations.Migration):
    dependencies = [("users", "0002_search_indexes")]

    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL(ADD, DROP)],
            [
                migrations.AddField(
                    "userprofile",
                    "is_service",
                    models.BooleanField(
                        db_default=False, default=False, editable=False, verbose_name="service account"
                    ),
                )
            ],
        ),
        migrations.CreateModel(
            name="ApiKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("prefix", models.CharField(max_length=16, unique=True)),
                ("hash", models.CharField(max_length=64)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                (
                    "networks",
                    models.TextField(
                        blank=True, help_text="Where it works from, such as 10.0.0.0/8; empty for anywhere."
                    ),
                ),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "account",
                    models.ForeignKey(
                        limit_choices_to={"is_service": True},
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="api_keys",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"verbose_name": "API key", "default_permissions": ()},
        ),
    ]
