"""The new rules hold for the wallets that there were. Nobody waits meanwhile."""

from django.db import migrations, models

from lokanetra import online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("wallet", "0003_tiers_holds_and_keys")]

    operations = [
        online.ValidateConstraint("wallet", "wallet_wallet_held_within_balance"),
        online.ValidateConstraint("wallet", "wallet_wallet_sums_not_negative"),
        online.AddIndex(
            "wallet",
            models.Index(fields=["tier"], name="wallet_wallet_by_tier", condition=models.Q(tier__isnull=False)),
        ),
    ]
