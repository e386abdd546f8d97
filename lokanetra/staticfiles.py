"""Static files, under the path prefix of the current request."""

from django.contrib.staticfiles.storage import StaticFilesStorage
from django.urls import get_script_prefix


class PrefixedStaticFiles(StaticFilesStorage):
    def url(self, name: str | None) -> str:
        return get_script_prefix().rstrip("/") + super().url(name)
