"""Triggers of the ledger. They refuse to change or delete a row, to give back more of a transaction than it moved, and
to capture more of a hold than it set aside.

Migrations create them. On SQLite a migration that alters the table replaces it by a new one without triggers, so it
must run `forbid` and `forbid_excess` again, which a test checks.
"""

from typing import Any

APPEND_ONLY = [
    """
    CREATE OR REPLACE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE ON transactions_transaction
    FOR EACH ROW EXECUTE FUNCTION transactions_append_only()
    """,
    """
    CREATE OR REPLACE TRIGGER transactions_no_truncate BEFORE TRUNCATE ON transactions_transaction
    FOR EACH STATEMENT EXECUTE FUNCTION transactions_append_only()
    """,
]
APPEND_ONLY_ON_SQLITE = [
    f"""
    CREATE TRIGGER IF NOT EXISTS transactions_no_{verb} BEFORE {verb} ON transactions_transaction
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
    """
    for verb in ("update", "delete")
]
NOT_APPEND_ONLY = [
    "DROP TRIGGER transactions_no_truncate ON transactions_transaction",
    "DROP TRIGGER transactions_append_only ON transactions_transaction",
]
NOT_APPEND_ONLY_ON_SQLITE = [
    "DROP TRIGGER IF EXISTS transactions_no_update",
    "DROP TRIGGER IF EXISTS transactions_no_delete",
]

# The original row, or the hold, is locked, so that concurrent inserts see each other. Locking a row takes the right to
# update it, which the serving role does not have: so these functions run with the owner's rights and a fixed search
# path.
WITHIN = [
    "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)",
    """
    CREATE OR REPLACE FUNCTION transactions_within_original() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
        original transactions_transaction;
        given_back numeric;
    BEGIN
        SELECT * INTO original FROM transactions_transaction WHERE id = NEW.reverses_id FOR NO KEY UPDATE;
        SELECT coalesce(sum(amount), 0) INTO given_back FROM transactions_transaction
            WHERE reverses_id = NEW.reverses_id;
        IF original.reverses_id IS NOT NULL OR given_back + NEW.amount > original.amount
            OR NEW.sender_id IS DISTINCT FROM original.receiver_id
            OR NEW.receiver_id IS DISTINCT FROM original.sender_id
        THEN
            RAISE EXCEPTION 'more would be given back than was moved, or to another'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION transactions_within_hold() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
        original wallet_hold;
        captured numeric;
    BEGIN
        SELECT * INTO original FROM wallet_hold WHERE id = NEW.hold_id FOR NO KEY UPDATE;
        SELECT coalesce(sum(amount), 0) INTO captured FROM transactions_transaction WHERE hold_id = NEW.hold_id;
        IF captured + NEW.amount > original.amount
            OR NEW.sender_id IS DISTINCT FROM original.payer_id OR NEW.receiver_id IS DISTINCT FROM original.payee_id
        THEN
            RAISE EXCEPTION 'more would be captured than is held, or by another'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER transactions_within_original BEFORE INSERT ON transactions_transaction
    FOR EACH ROW WHEN (NEW.reverses_id IS NOT NULL) EXECUTE FUNCTION transactions_within_original()
    """,
    """
    CREATE OR REPLACE TRIGGER transactions_within_hold BEFORE INSERT ON transactions_transaction
    FOR EACH ROW WHEN (NEW.hold_id IS NOT NULL) EXECUTE FUNCTION transactions_within_hold()
    """,
]
WITHIN_ON_SQLITE = [
    """
    CREATE TRIGGER IF NOT EXISTS transactions_within_original BEFORE INSERT ON transactions_transaction
    WHEN NEW.reverses_id IS NOT NULL
    BEGIN
        SELECT RAISE(ABORT, 'more would be given back than was moved, or to another') WHERE NOT EXISTS (
            SELECT 1 FROM transactions_transaction AS original
            WHERE id = NEW.reverses_id AND reverses_id IS NULL
                AND receiver_id IS NEW.sender_id AND sender_id IS NEW.receiver_id
                AND amount >= NEW.amount + (
                    SELECT coalesce(sum(amount), 0) FROM transactions_transaction WHERE reverses_id = NEW.reverses_id
                )
        );
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS transactions_within_hold BEFORE INSERT ON transactions_transaction
    WHEN NEW.hold_id IS NOT NULL
    BEGIN
        SELECT RAISE(ABORT, 'more would be captured than is held, or by another') WHERE NOT EXISTS (
            SELECT 1 FROM wallet_hold
            WHERE id = NEW.hold_id AND payer_id IS NEW.sender_id AND payee_id IS NEW.receiver_id
                AND amount >= NEW.amount + (
                    SELECT coalesce(sum(amount), 0) FROM transactions_transaction WHERE hold_id = NEW.hold_id
                )
        );
    END
    """,
]
NOT_WITHIN = [
    "DROP TRIGGER transactions_within_original ON transactions_transaction",
    "DROP TRIGGER transactions_within_hold ON transactions_transaction",
    "DROP FUNCTION transactions_within_original()",
    "DROP FUNCTION transactions_within_hold()",
]
NOT_WITHIN_ON_SQLITE = ["DROP TRIGGER transactions_within_original", "DROP TRIGGER transactions_within_hold"]


def forbid(apps: Any, schema_editor: Any) -> None:
    _run(schema_editor, APPEND_ONLY, APPEND_ONLY_ON_SQLITE)


def allow(apps: Any, schema_editor: Any) -> None:
    _run(schema_editor, NOT_APPEND_ONLY, NOT_APPEND_ONLY_ON_SQLITE)


def forbid_excess(apps: Any, schema_editor: Any) -> None:
    _run(schema_editor, WITHIN, WITHIN_ON_SQLITE)


def allow_parts(apps: Any, schema_editor: Any) -> None:
    _run(schema_editor, NOT_WITHIN, NOT_WITHIN_ON_SQLITE)


def _run(schema_editor: Any, postgresql: list[str], sqlite: list[str]) -> None:
    for statement in postgresql if schema_editor.connection.vendor == "postgresql" else sqlite:
        schema_editor.execute(statement)
