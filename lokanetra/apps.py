from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class LokanetraConfig(AppConfig):
    name = "lokanetra"

    def ready(self) -> None:
        from lokanetra import checks  # noqa: F401  (registers the checks)


class ConsoleConfig(AdminConfig):
    default_site = "lokanetra.admin.Console"
