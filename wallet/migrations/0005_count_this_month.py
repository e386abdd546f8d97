"""What moved today and this month is counted in the wallets' rows, so that a tier set tomorrow counts right.

One pass over the rows of the month. Nobody pays meanwhile: servers of version 1 cannot write any more.
"""

from django.db import migrations
from django.utils import timezone

from lokanetra import days

COUNT = """
    WITH moved AS (
        SELECT sender_id AS wallet_id, amount AS paid, CASE WHEN timestamp >= %s THEN amount ELSE 0 END AS today,
               CASE WHEN timestamp >= %s THEN 1 ELSE 0 END AS payment, 0 AS received
        FROM transactions_transaction
        WHERE timestamp >= %s AND sender_id IS NOT NULL AND reverses_id IS NULL
        UNION ALL
        SELECT receiver_id, 0, 0, 0, amount FROM transactions_transaction
        WHERE timestamp >= %s AND receiver_id IS NOT NULL AND reverses_id IS NULL
    ), sums AS (
        SELECT wallet_id, sum(paid) AS out_month, sum(today) AS out_day, sum(payment) AS count_day,
               sum(received) AS in_month
        FROM moved GROUP BY wallet_id
    )
    UPDATE wallet_wallet
    SET day = %s, out_day = sums.out_day, count_day = sums.count_day, out_month = sums.out_month,
        in_month = sums.in_month
    FROM sums WHERE sums.wallet_id = wallet_wallet.id
"""


def count(apps, schema_editor):
    today = days.day_of(timezone.now())
    ops = schema_editor.connection.ops
    start, month = (ops.adapt_datetimefield_value(days.start_of(day)) for day in (today, days.month_of(today)))
    schema_editor.execute(COUNT, [start, start, month, month, today])


class Migration(migrations.Migration):
    dependencies = [
        ("wallet", "0004_check_all_wallets"),
        ("transactions", "0007_one_key_table_and_refunds_in_parts"),
    ]

    operations = [migrations.RunPython(count, migrations.RunPython.noop, elidable=False)]
