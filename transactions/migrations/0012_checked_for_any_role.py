"""Refunds and captures are checked by the database also when the role that writes them may change no row."""

from django.db import migrations

from transactions.triggers import forbid_excess


class Migration(migrations.Migration):
    dependencies = [("transactions", "0011_events_of_requests")]

    operations = [migrations.RunPython(forbid_excess, migrations.RunPython.noop, elidable=False)]
