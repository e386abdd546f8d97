"""Tiers, holds, one table for all idempotency keys, and what limits and holds need in the wallet's row.

New tables are empty, and the new columns have defaults that no row is rewritten for. A key is never changed or deleted,
as the ledger is not.
"""

import datetime
import django.db.models.deletion
import wallet.money
from django.conf import settings
from django.db import migrations, models

from lokanetra import online

POSTGRESQL = [
    """
    CREATE TRIGGER wallet_key_append_only BEFORE UPDATE OR DELETE ON wallet_key
    FOR EACH ROW EXECUTE FUNCTION transactions_append_only()
    """,
    """
    CREATE TRIGGER wallet_key_no_truncate BEFORE TRUNCATE ON wallet_key
    FOR EACH STATEMENT EXECUTE FUNCTION transactions_append_only()
    """,
]
SQLITE = [
    f"""
    CREATE TRIGGER wallet_key_no_{verb} BEFORE {verb} ON wallet_key
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
    """
    for verb in ("update", "delete")
]


def forbid(apps, schema_editor):
    for statement in POSTGRESQL if online.is_postgresql(schema_editor) else SQLITE:
        schema_editor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('transactions', '0002_append_only'),
        ('wallet', '0002_ledger_checks'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        online.SHORT_LOCKS,
        migrations.CreateModel(
            name='Tier',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=64, unique=True)),
                ('max_amount', wallet.money.MoneyField(blank=True, help_text='At once.', null=True)),
                ('max_balance', wallet.money.MoneyField(blank=True, help_text='In the wallet.', null=True)),
                ('daily_out', wallet.money.MoneyField(blank=True, help_text='Out in a day.', null=True)),
                ('monthly_out', wallet.money.MoneyField(blank=True, help_text='Out in a month.', null=True)),
                ('monthly_in', wallet.money.MoneyField(blank=True, help_text='Into it in a month.', null=True)),
                ('daily_count', models.PositiveIntegerField(blank=True, help_text='Payments out in a day.', null=True)),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('max_amount__gte', 0)), name='wallet_tier_max_amount_not_negative'), models.CheckConstraint(condition=models.Q(('max_balance__gte', 0)), name='wallet_tier_max_balance_not_negative'), models.CheckConstraint(condition=models.Q(('daily_out__gte', 0)), name='wallet_tier_daily_out_not_negative'), models.CheckConstraint(condition=models.Q(('monthly_out__gte', 0)), name='wallet_tier_monthly_out_not_negative'), models.CheckConstraint(condition=models.Q(('monthly_in__gte', 0)), name='wallet_tier_monthly_in_not_negative'), models.CheckConstraint(condition=models.Q(('daily_count__gte', 0)), name='wallet_tier_daily_count_not_negative')],
            },
        ),
        migrations.AddField(
            model_name='wallet',
            name='count_day',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='wallet',
            name='day',
            field=models.DateField(db_default=datetime.date(1970, 1, 1), default=datetime.date(1970, 1, 1)),
        ),
        migrations.AddField(
            model_name='wallet',
            name='held',
            field=wallet.money.MoneyField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='wallet',
            name='in_month',
            field=wallet.money.MoneyField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='wallet',
            name='out_day',
            field=wallet.money.MoneyField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='wallet',
            name='out_month',
            field=wallet.money.MoneyField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='wallet',
            name='tier',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='wallet.tier'),
        ),
        online.AddConstraint(
            model_name='wallet',
            constraint=models.CheckConstraint(condition=models.Q(('held__gte', 0), ('held__lte', models.F('balance'))), name='wallet_wallet_held_within_balance'),
        ),
        online.AddConstraint(
            model_name='wallet',
            constraint=models.CheckConstraint(condition=models.Q(('count_day__gte', 0), ('in_month__gte', 0), ('out_day__gte', 0), ('out_month__gte', models.F('out_day'))), name='wallet_wallet_sums_not_negative'),
        ),
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('amount', wallet.money.MoneyField()),
                ('captured', wallet.money.MoneyField(default=0)),
                ('status', models.CharField(choices=[('OPEN', 'Open'), ('CAPTURED', 'Captured'), ('VOIDED', 'Voided'), ('EXPIRED', 'Expired')], default='OPEN', max_length=8)),
                ('remarks', models.CharField(blank=True, max_length=255)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(null=True)),
                ('payee', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='wallet.wallet')),
                ('payer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='wallet.wallet')),
            ],
            options={
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='Key',
            fields=[
                ('pk', models.CompositePrimaryKey('user', 'key', blank=True, editable=False, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=255)),
                ('request_hash', models.CharField(max_length=64)),
                ('hold', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='wallet.hold')),
                ('transaction', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='transactions.transaction')),
                ('user', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(fields=['payer', '-id'], name='wallet_hold_by_payer'),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(fields=['payee', '-id'], name='wallet_hold_by_payee'),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(condition=models.Q(('status', 'OPEN')), fields=['payer', 'expires_at'], name='wallet_hold_open'),
        ),
        migrations.AddIndex(
            model_name='hold',
            index=models.Index(condition=models.Q(('status', 'OPEN')), fields=['expires_at'], name='wallet_hold_due'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='wallet_hold_amount_positive'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('captured__gte', 0), ('captured__lte', models.F('amount'))), name='wallet_hold_captured_within_amount'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('payer', models.F('payee')), _negated=True), name='wallet_hold_two_wallets'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(('expires_at__gt', models.F('created_at'))), name='wallet_hold_ends_after_it_began'),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('captured__lt', models.F('amount')), ('closed_at', None), ('status', 'OPEN')), models.Q(('captured__gt', 0), ('closed_at__isnull', False), ('status', 'CAPTURED')), models.Q(('captured__lt', models.F('amount')), ('closed_at__isnull', False), ('status__in', ['VOIDED', 'EXPIRED'])), _connector='OR'), name='wallet_hold_closed_or_open'),
        ),
        migrations.AddConstraint(
            model_name='key',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('hold', None), ('transaction__isnull', False)), models.Q(('hold__isnull', False), ('transaction', None)), _connector='OR'), name='wallet_key_of_one_thing'),
        ),
        migrations.RunPython(forbid, migrations.RunPython.noop, elidable=False),  # the triggers go with the table
    ]
