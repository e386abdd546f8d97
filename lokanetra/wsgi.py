"""The application for any WSGI server, also the development server. `scripts/serve.sh` runs `rsgi.py` instead."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")

from django.core.wsgi import get_wsgi_application

from lokanetra import postgresql

postgresql.serve()
application = get_wsgi_application()
