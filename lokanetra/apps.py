from django.apps import AppConfig


class LokanetraConfig(AppConfig):
    name = "lokanetra"

    def ready(self) -> None:
        from lokanetra import checks  # noqa: F401  (registers the checks)
