"""An encrypted text can be read with the keys in the settings, and not from the column alone."""

import pytest

from lokanetra.encrypted import EncryptedField, Unreadable

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FIRST, SECOND = "the-first-key-of-these-tests-" * 2, "the-second-key-of-these-tests-" * 2


def stored(text):
    return EncryptedField().get_prep_value(text)


def read(column):
    return EncryptedField().from_db_value(column, None, None)


def test_a_text_is_decrypted_and_its_column_does_not_reveal_it():
    column = stored(SECRET)
    assert read(column) == SECRET
    assert SECRET not in column and SECRET.removeprefix("whsec_") not in column
    assert stored(SECRET) != column
    assert (stored(None), read(None)) == (None, None)


@pytest.mark.parametrize("keys", [[FIRST], []])
def test_a_text_is_encrypted_with_its_own_key_or_else_the_secret_key(keys, settings):
    settings.WEBHOOK_SECRET_KEY = keys
    column = stored(SECRET)
    settings.SECRET_KEY = SECOND
    assert (read(column) == SECRET) is bool(keys)


def test_an_old_key_still_decrypts(settings):
    settings.WEBHOOK_SECRET_KEY = [FIRST]
    column = stored(SECRET)
    settings.WEBHOOK_SECRET_KEY = [SECOND, FIRST]
    assert read(column) == SECRET
    again = stored(SECRET)
    settings.WEBHOOK_SECRET_KEY = [SECOND]
    assert (read(again), read(column)) == (SECRET, "")


def test_an_old_secret_key_still_decrypts(settings):
    column, before = stored(SECRET), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = FIRST, [before]
    assert read(column) == SECRET


@pytest.mark.parametrize("column", ["", "whsec_plain", "gAAAAA", "é", None])
def test_what_no_key_decrypts_is_empty_and_stays_as_stored(column, settings):
    if column is None:
        column = stored(SECRET)
        settings.SECRET_KEY = FIRST
    value = read(column)
    assert isinstance(value, Unreadable) and not value
    assert stored(value) == column
