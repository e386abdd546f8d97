"""Empties the sums of closed days: they were of UTC days, and are of days of `TIME_ZONE` now.

`close_days` sums them anew from the ledger, from its first row on.
"""

from django.db import migrations


def empty(apps, schema_editor):
    apps.get_model("transactions", "DayVolume").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("transactions", "0002_append_only")]

    operations = [migrations.RunPython(empty, empty)]
