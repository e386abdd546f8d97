"""The application as a WSGI server runs it."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")
# A request that waits longer than this has lost its client: better a clear 503. Management commands take their time.
os.environ.setdefault("PGOPTIONS", "-c lock_timeout=3s -c statement_timeout=10s")

application = get_wsgi_application()
