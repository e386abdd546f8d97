"""An encrypted text is read with the keys of the settings, and by nobody who has the column alone."""

import pytest

from lokanetra.encrypted import EncryptedField, Unreadable

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FIRST, SECOND = "the-first-key-of-these-tests-" * 2, "the-second-key-of-these-tests-" * 2


def stored(text):
    return EncryptedField().get_prep_value(text)


def read(column):
    return EncryptedField().from_db_value(column, None, None)


def test_a_text_comes_back_and_its_column_does_not_tell_it():
    column = stored(SECRET)
    assert read(column) == SECRET
    assert SECRET not in column and SECRET.removeprefix("whsec_") not in column
    assert stored(SECRET) != column
    assert (stored(None), read(None)) == (None, None)


@pytest.mark.parametrize("keys", [[FIRST], []])
def test_a_text_is_encrypted_by_the_key_of_its_own_or_else_by_the_secret_key(keys, settings):
    settings.WEBHOOK_SECRET_KEY = keys
    column = stored(SECRET)
    settings.SECRET_KEY = SECOND
    assert (read(column) == SECRET) is bool(keys)


def test_a_key_of_before_still_reads(settings):
    settings.WEBHOOK_SECRET_KEY = [FIRST]
    column = stored(SECRET)
    settings.WEBHOOK_SECRET_KEY = [SECOND, FIRST]
    assert read(column) == SECRET
    anew = stored(SECRET)
    settings.WEBHOOK_SECRET_KEY = [SECOND]
    assert (read(anew), read(column)) == (SECRET, "")


def test_a_secret_key_of_before_still_reads(settings):
    column, before = stored(SECRET), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = FIRST, [before]
    assert read(column) == SECRET


@pytest.mark.parametrize("column", ["", "whsec_plain", "gAAAAA", "é", None])
def test_what_no_key_reads_is_empty_and_stays_as_it_was_stored(column, settings):
    if column is None:
        column = stored(SECRET)
        settings.SECRET_KEY = FIRST
    value = read(column)
    assert isinstance(value, Unreadable) and not value
    assert stored(value) == column
