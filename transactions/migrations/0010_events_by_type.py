"""Events that are no payments are found by their type. An upgrade has none yet, so nobody waits."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("transactions", "0009_webhooks")]

    operations = [
        migrations.AddIndex(
            "event",
            models.Index(
                fields=["type", "id"],
                name="transactions_rare_events",
                condition=~models.Q(type="transaction.created"),
            ),
        ),
    ]
