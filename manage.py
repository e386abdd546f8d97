#!/usr/bin/env python
"""Django's command line. A bare checkout (neither DEBUG nor a secret key set) runs in development mode."""

import os
import sys
from typing import Any

from lokanetra import env


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")
    if env.text("DEBUG") is None and env.text("DJANGO_SECRET_KEY") is None:
        os.environ["DEBUG"] = "on"

    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        log: Any = settings.LOGGING["root"]
    except ImproperlyConfigured as error:
        sys.exit(f"Settings: {error}")
    if sys.argv[1:2] not in (["runserver"], ["work"]):
        log["level"] = "WARNING"  # commands say themselves what they did: the rest belongs to the log of a server
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
