from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import AdminConfig


class LokanetraConfig(AppConfig):
    name = "lokanetra"

    def ready(self) -> None:
        from lokanetra import checks, sentry  # noqa: F401  (registers the checks)

        if settings.SENTRY_DSN:
            sentry.start(settings.SENTRY_DSN)


class ConsoleConfig(AdminConfig):
    default_site = "lokanetra.admin.Console"
