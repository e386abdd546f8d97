"""Every setting, in sections, read from the environment and `.env`. `scripts/docs/operations.md` has the table."""

from datetime import timedelta

from lokanetra import env

# --- Mode and secrets -----------------------------------------------------------------------------

BASE_DIR = env.BASE_DIR
DEBUG = env.boolean("DEBUG", False)

SECRET_KEY = env.secret(
    "DJANGO_SECRET_KEY",
    development="development-only-key-that-is-never-used-when-debug-is-off" if DEBUG else None,
)
SECRET_KEY_FALLBACKS = env.secrets("DJANGO_SECRET_KEY_FALLBACKS")
JWT_SIGNING_KEY = env.secret_or_derived("JWT_SIGNING_KEY", SECRET_KEY)
OTP_PEPPER = env.secret_or_derived("OTP_PEPPER", SECRET_KEY)
WEBHOOK_SECRET_KEY = env.secrets("WEBHOOK_SECRET_KEY")

# --- The product ----------------------------------------------------------------------------------

WALLET_CURRENCY = env.text("WALLET_CURRENCY", "INR")
WALLET_SELF_CREDIT = env.boolean("WALLET_SELF_CREDIT", DEBUG)
WALLET_MAX_AMOUNT = env.money("WALLET_MAX_AMOUNT", "1000000.00")
WALLET_MAX_BALANCE = env.money("WALLET_MAX_BALANCE", "100000000.00")
REQUESTS_PER_DAY = env.integer("REQUESTS_PER_DAY", 100)
IDEMPOTENCY_REQUIRED = env.boolean("IDEMPOTENCY_REQUIRED", False)

PHONE_REGION = env.text("PHONE_REGION", "IN")
OTP_REGIONS = env.listing("OTP_REGIONS", PHONE_REGION)
OTP_ECHO = env.boolean("OTP_ECHO", DEBUG)
OTP_SMS_URL = env.text("OTP_SMS_URL")
OTP_SMS_TEXT = env.text(
    "OTP_SMS_TEXT",
    "Your Lokanetra code is {code}. It works for {minutes} minutes. Nobody from Lokanetra will ask you for it: "
    "do not share it.",
)
OTP_COOLDOWN = env.integer("OTP_COOLDOWN", 0 if DEBUG else 30)
OTP_SENDS_PER_ADDRESS = env.integer("OTP_SENDS_PER_ADDRESS", 0 if DEBUG else 100)
OTP_SENDS_PER_DAY = env.integer("OTP_SENDS_PER_DAY", 0)
# The caps per phone apply in production; in development the same phone logs in all day.
OTP_SENDS_CAPPED = not DEBUG

API_RATE_LIMIT = env.rate("API_RATE_LIMIT", "600/min")
SERVICE_RATE_LIMIT = env.rate("SERVICE_RATE_LIMIT", "6000/min")
NUM_PROXIES = env.integer("NUM_PROXIES", 0)
# The least that a provider gives to one line; some give a /56.
CLIENT_IPV6_PREFIX = env.prefix_length("CLIENT_IPV6_PREFIX", 64)

METRICS_TOKEN = env.text("METRICS_TOKEN")
SENTRY_DSN = env.dsn("SENTRY_DSN")

EVENTS_KEPT_DAYS = env.integer("EVENTS_KEPT_DAYS", 90)
WEBHOOK_ALLOWED_NETWORKS = env.networks("WEBHOOK_ALLOWED_NETWORKS")

# --- Applications ---------------------------------------------------------------------------------

INSTALLED_APPS = [
    "lokanetra.apps.LokanetraConfig",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "lokanetra.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "django_filters",
    "rest_framework",
    "drf_yasg",
    "users",
    "wallet",
    "transactions",
]

MIDDLEWARE = [
    "lokanetra.middleware.url_prefix",
    "lokanetra.middleware.request_id",
    "lokanetra.middleware.headers",
    "lokanetra.middleware.problems",
    "lokanetra.middleware.Origins",
    "lokanetra.middleware.SlashMiddleware",
    "lokanetra.middleware.pages_only",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

ROOT_URLCONF = "lokanetra.urls"
WSGI_APPLICATION = "lokanetra.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Database and cache ---------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", "sqlite:///db.sqlite3")}
DATABASES |= env.replica("DATABASE_REPLICA_URL", DATABASES["default"])
# Seconds. The maximum age of data from a replica.
REPLICA_MAX_LAG = env.integer("REPLICA_MAX_LAG", 10)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {"default": env.cache("REDIS_URL")}

# --- Accounts and tokens --------------------------------------------------------------------------

AUTH_USER_MODEL = "users.UserProfile"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SIGNING_KEY,
    "ISSUER": "lokanetra",
    "AUDIENCE": "lokanetra",
    # Short, so that a stolen access token is soon worthless; long enough to be refreshed rarely.
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=10),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
}

# --- API ------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["users.keys.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["lokanetra.throttles.RateLimit"],
    "DEFAULT_PARSER_CLASSES": ["lokanetra.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["lokanetra.parsers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "lokanetra.parsers.AlwaysJSON",
    "EXCEPTION_HANDLER": "lokanetra.errors.handler",
    "NUM_PROXIES": NUM_PROXIES,
    "UNICODE_JSON": True,
}
MAX_BODY_BYTES = 64 * 1024

SWAGGER_SETTINGS = {
    "DEFAULT_AUTO_SCHEMA_CLASS": "lokanetra.schema.EndpointSchema",
    "DEFAULT_INFO": "lokanetra.schema.INFO",
    "USE_SESSION_AUTH": False,
    "USE_COMPAT_RENDERERS": False,
    "PERSIST_AUTH": True,
    "SPEC_URL": "schema",
    "VALIDATOR_URL": None,
    "SECURITY_DEFINITIONS": {
        "Bearer": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Bearer <access>`, with the access token from `/auth/verify-otp/`.",
        }
    },
}
REDOC_SETTINGS = {"SPEC_URL": "schema", "LAZY_RENDERING": False, "HIDE_HOSTNAME": True}

# --- Admin ----------------------------------------------------------------------------------------

ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>"
    "<rect width='24' height='24' rx='5' fill='%239810fa'/>"
    "<text x='12' y='18' font-size='16' text-anchor='middle' fill='white'>₹</text></svg>"
)
UNFOLD = {
    "SITE_TITLE": "Lokanetra",
    "SITE_HEADER": "Lokanetra",
    "SITE_SYMBOL": "account_balance_wallet",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": ICON}],
    "SITE_URL": "lokanetra.admin.documentation",
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "transactions.front.page",
    "LOGIN": {"form": "users.forms.LoginForm"},
    "SIDEBAR": {"navigation": "lokanetra.admin.navigation"},
    # Links on a dark background, lighter than Unfold's, for contrast.
    "COLORS": {"primary": {"500": "oklch(70% .19 305)"}},
    "STYLES": ["lokanetra.admin.style"],
    "SCRIPTS": ["lokanetra.admin.script"],
}
LOGIN_REDIRECT_URL = "admin:index"

# --- The web ---------------------------------------------------------------------------------------

# The path at which a proxy serves the product, if it is not the root; if not set, `X-Forwarded-Prefix` counts.
FORCE_SCRIPT_NAME = env.path_prefix("SCRIPT_NAME")
ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.listing("CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = env.listing("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_HEADERS = ["accept", "authorization", "content-type", "idempotency-key", "x-request-id"]
CORS_EXPOSE_HEADERS = ["Idempotent-Replayed", "Retry-After", "X-Request-Id"]

SECURE_SSL_REDIRECT = env.boolean("SECURE_SSL_REDIRECT", not DEBUG)
SECURE_REDIRECT_EXEMPT = [r"(^|/)healthz$", r"(^|/)readyz$", r"(^|/)metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if NUM_PROXIES else None
SECURE_HSTS_SECONDS = 0 if DEBUG else 365 * 24 * 3600
# These affect the whole domain, with all other services there, for a year or more: only its owner can decide that.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.boolean("SECURE_HSTS_INCLUDE_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = env.boolean("SECURE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SESSION_COOKIE_SECURE = not DEBUG
# Seconds. A console session left open in the evening has ended in the morning.
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_SECURE = not DEBUG
X_FRAME_OPTIONS = "DENY"

# --- Language, time, static files, logs -------------------------------------------------------------

LANGUAGE_CODE = "en"
USE_I18N = False
# For the days and months of limits, filters, charts and the console. Times in JSON and in logs are UTC.
TIME_ZONE = env.time_zone("TIME_ZONE", "Asia/Kolkata")
USE_TZ = True
# How Django writes times in the console: as the product does.
FORMAT_MODULE_PATH = "lokanetra.formats"
# When the worker checks the books, in that zone.
NIGHTLY_AT = env.time_of_day("NIGHTLY_AT", "02:30")

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / ".static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "lokanetra.staticfiles.PrefixedStaticFiles"},
}
# The same with any path prefix.
WHITENOISE_STATIC_PREFIX = STATIC_URL

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "lokanetra.logs.RequestIdFilter"},
        "client_error": {"()": "lokanetra.logs.ClientErrorFilter"},
    },
    "formatters": {
        "json": {"()": "lokanetra.logs.JSONFormatter"},
        "readable": {
            "()": "lokanetra.logs.ReadableFormatter",
            "format": "{levelname} {name} [{request_id}] {message}",
            "style": "{",
        },
    },
    "handlers": {
        "console": {
            "class": "lokanetra.logs.NonBlockingHandler",
            "filters": ["request_id", "client_error"],
            "formatter": "readable" if DEBUG else "json",
        }
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": ["console"], "propagate": False},
        # Anybody may send any Host header: it is answered with a 400, and no reason for an alert.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "apprise": {"level": "WARNING"},
        # It logs a hundred lines for each font in a file.
        "fontTools": {"level": "WARNING"},
        # It would log the URLs of receivers whose answers are malformed.
        "urllib3": {"level": "ERROR"},
        # The development server logs requests itself.
        "lokanetra.requests": {"level": "WARNING" if DEBUG else "INFO"},
    },
}
