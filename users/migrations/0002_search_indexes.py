"""Accounts and codes are found by how a username, phone or name begins, and by the last digits of a phone.

In the databases' own words, for only there an index can be said to serve `LIKE`. Nothing waits while PostgreSQL makes
them; a migration that broke off is simply run again. On SQLite a later migration that alters one of these tables makes
a new one without them: it must run `create` again, which a test holds it to.
"""

from django.db import migrations

USERS, CODES = "users_userprofile", "users_otp"
POSTGRESQL = {
    "users_phone_ending": f"{USERS} (RIGHT(phone_number, 4))",
    "users_first_name": f"{USERS} (UPPER(first_name) text_pattern_ops)",
    "users_last_name": f"{USERS} (UPPER(last_name) text_pattern_ops)",
    "users_otp_phone": f"{CODES} (phone_number varchar_pattern_ops)",
    "users_otp_ending": f"{CODES} (RIGHT(phone_number, 4))",
}
SQLITE = {
    "users_username": f"{USERS} (username COLLATE NOCASE)",
    "users_phone": f"{USERS} (phone_number COLLATE NOCASE)",
    "users_phone_ending": f"{USERS} (SUBSTR(phone_number, -4))",
    "users_first_name": f"{USERS} (first_name COLLATE NOCASE)",
    "users_last_name": f"{USERS} (last_name COLLATE NOCASE)",
    "users_otp_phone": f"{CODES} (phone_number COLLATE NOCASE)",
    "users_otp_ending": f"{CODES} (SUBSTR(phone_number, -4))",
}


def create(apps, schema_editor):
    drop(apps, schema_editor)  # what is left of a run that broke off is no good
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    for name, what in (POSTGRESQL if is_postgresql else SQLITE).items():
        schema_editor.execute(f"CREATE INDEX {'CONCURRENTLY' if is_postgresql else ''} {name} ON {what}")
    if is_postgresql:  # an index on an expression is not used for what nobody has counted
        schema_editor.execute(f"ANALYZE {USERS}, {CODES}")


def drop(apps, schema_editor):
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    for name in POSTGRESQL if is_postgresql else SQLITE:
        schema_editor.execute(f"DROP INDEX {'CONCURRENTLY' if is_postgresql else ''} IF EXISTS {name}")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("users", "0001_accounts_codes_and_logins")]

    operations = [migrations.RunPython(create, drop, elidable=False)]
