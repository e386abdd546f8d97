"""The product's settings with one more path: see `reference_urls.py`."""

from lokanetra.settings import *  # noqa: F403

ROOT_URLCONF = "scripts.bench.reference_urls"
