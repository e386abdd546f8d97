"""The rule of keys holds for those that there were. Nobody waits meanwhile."""

from django.db import migrations

from lokanetra import online


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("wallet", "0006_requests_for_money")]

    operations = [online.ValidateConstraint("key", "wallet_key_of_one_thing")]
