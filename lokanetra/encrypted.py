"""Texts that are encrypted in the database: a dump or a backup alone does not reveal them."""

from base64 import urlsafe_b64encode
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models


class Unreadable(str):
    """A value whose key is lost. It is empty and falsy; saving its row keeps the stored value."""

    stored: str

    @classmethod
    def of(cls, stored: str) -> "Unreadable":
        value = cls()
        value.stored = stored
        return value


class EncryptedField(models.TextField):
    """A text in Python, a Fernet token in the column; `Unreadable` where no key in the settings fits.

    Rows cannot be queried by it: the same text is encrypted differently each time.
    """

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Unreadable):
            return value.stored
        text = super().get_prep_value(value)
        return text if text is None else _keys().encrypt(text.encode()).decode()

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str | None:
        return None if value is None else _read(value)

    def value_to_string(self, obj: models.Model) -> str:
        """For `dumpdata`: encrypted, as in the database."""
        return self.get_prep_value(self.value_from_object(obj))

    def to_python(self, value: Any) -> Any:
        """For `loaddata`: decrypted again."""
        text = super().to_python(value)
        return text and (_read(text) or text)


def _read(stored: str) -> str:
    try:
        return _keys().decrypt(stored).decode()
    except (InvalidToken, ValueError):
        return Unreadable.of(stored)


def _keys() -> MultiFernet:
    """The first key encrypts, each may decrypt."""
    secrets = [*settings.WEBHOOK_SECRET_KEY, settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derived(secret)) for secret in secrets])


def _derived(secret: str) -> bytes:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lokanetra.encrypted").derive(secret.encode())
    return urlsafe_b64encode(key)
