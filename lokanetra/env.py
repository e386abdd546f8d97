"""Typed reads of environment variables and `.env`. A value that cannot be read names its variable.

An empty variable counts as not set. `settings.py` says what the settings mean.
"""

import hashlib
import hmac
import os
import re
from datetime import time
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, overload
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from dotenv import load_dotenv

BASE_DIR = Path(__file__).resolve().parent.parent
load_dotenv(BASE_DIR / ".env")

# A path prefix: no host, no `..`, nothing that would need escaping.
PATH_PREFIX = "(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+"

_BOOLEANS = {"true": True, "on": True, "yes": True, "1": True}
_BOOLEANS |= {"false": False, "off": False, "no": False, "0": False}


@overload
def text(name: str) -> str | None: ...
@overload
def text(name: str, default: str) -> str: ...
def text(name: str, default: str | None = None) -> str | None:
    return os.environ.get(name, "").strip() or default


def boolean(name: str, default: bool) -> bool:
    value = text(name)
    if value is None:
        return default
    if value.lower() not in _BOOLEANS:
        raise ImproperlyConfigured(f"{name} is {value!r}: write one of {', '.join(_BOOLEANS)}.")
    return _BOOLEANS[value.lower()]


def integer(name: str, default: int) -> int:
    """A whole number, zero or more."""
    return int(_matching(name, r"[0-9]{1,9}", "a whole number", str(default)))


def prefix_length(name: str, default: int) -> int:
    """The number of bits of an IPv6 address that identify a network."""
    return int(_matching(name, r"[1-9]|[1-9][0-9]|1[01][0-9]|12[0-8]", "a whole number from 1 to 128", str(default)))


def path_prefix(name: str) -> str | None:
    """A path such as `/pay`, without a slash at its end; None for the root."""
    return _matching(name, rf"({PATH_PREFIX})?/?", "a path such as /pay", "/").rstrip("/") or None


def time_zone(name: str, default: str) -> str:
    """An IANA name, such as Asia/Kolkata."""
    wanted = "an IANA name such as Asia/Kolkata"
    # All begin with a capital; other files in the folder of zones, such as `localtime`, do not.
    value = _matching(name, r"[A-Z][A-Za-z0-9_+/-]*", wanted, default)
    try:
        return ZoneInfo(value).key
    except (LookupError, ValueError, OSError) as error:
        raise ImproperlyConfigured(
            f"{name} is {value!r}, which this machine does not know: write {wanted}, or install tzdata."
        ) from error


def time_of_day(name: str, default: str) -> time:
    """Hours and minutes, such as 02:30."""
    return time.fromisoformat(
        _matching(name, "([01][0-9]|2[0-3]):[0-5][0-9]", "a time of the day such as 02:30", default)
    )


def money(name: str, default: str) -> Decimal:
    """Rupees, with at most two decimals."""
    return Decimal(_matching(name, r"[0-9]{1,15}(\.[0-9]{1,2})?", "an amount such as 1000.00", default))


def listing(name: str, default: str = "") -> list[str]:
    """Comma-separated values."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def dsn(name: str) -> str | None:
    """The address for Sentry's events, from the settings of its project."""
    pattern = r"(https?://\w+(:\w+)?@[^/\s@?#]+(/[^\s?#]*)?/[0-9]+)?"
    return _matching(name, pattern, "a DSN such as https://key@sentry.example.com/1", "") or None


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """Comma-separated networks, such as 10.0.0.0/8."""
    try:
        return [ip_network(part) for part in listing(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}. Write networks such as 10.0.0.0/8, fd00::/8.") from error


def rate(name: str, default: str) -> tuple[int, int] | None:
    """`600/min` as (calls, seconds). Empty turns the limit off: only here, empty differs from "not set"."""
    if not os.environ.get(name, default).strip():
        return None
    value = _matching(name, r"[1-9][0-9]{0,8}/(s|sec|min|hour|day)", "a rate such as 600/min", default)
    calls, period = value.split("/")
    return int(calls), {"s": 1, "m": 60, "h": 3600, "d": 86400}[period[0]]


def database(name: str, default: str) -> dict[str, Any]:
    """A database URL as Django's settings. On SQLite a relative path is relative to the project."""
    try:
        config = _parsed(text(name, default))
    except ValueError as error:  # only its message: the URL contains a password
        raise ImproperlyConfigured(f"{name} cannot be read as a database URL: {error}") from error
    # Connections live as long as their process: opening one costs more than a payment.
    config |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    if config["ENGINE"].endswith("sqlite3"):
        return config | _sqlite(config["NAME"])
    return config | _postgresql(config)


def replica(name: str, primary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The replica of a PostgreSQL database as Django's settings, by its alias; empty where it is not set."""
    if text(name) is None:
        return {}
    config = database(name, "")
    if {config["ENGINE"], primary["ENGINE"]} != {"lokanetra.postgresql"}:
        raise ImproperlyConfigured(f"{name} is set: it and DATABASE_URL must both be PostgreSQL.")
    if "," in config["HOST"]:
        raise ImproperlyConfigured(f"{name} has several hosts: name one, because a file is read from a single one.")
    return {REPLICA: config | {"TEST": {"MIRROR": "default"}}}


# Its alias in Django.
REPLICA = "replica"
# Between the account and the path of a URL: several hosts, each with or without a port, as in libpq.
_HOSTS = re.compile(r"(?P<before>[a-z]+://([^/?#@]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<after>([/?#].*)?)")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:,]+)(:(?P<port>[0-9]*))?")
DEFAULT_PORT = "5432"


def _parsed(url: str) -> dict[str, Any]:
    """With all hosts and ports in HOST and PORT, wherever the URL has them. Raises ValueError."""
    several = _HOSTS.fullmatch(url)
    config: dict[str, Any] = dict(dj_database_url.parse(several["before"] + several["after"] if several else url))
    options = config.setdefault("OPTIONS", {})
    if several:
        config |= _hosts(several["hosts"])
    config |= {name.upper(): str(options.pop(name)) for name in ("host", "port") if name in options}
    hosts, ports = (str(config.get(name, "")).split(",") for name in ("HOST", "PORT"))
    if len(ports) not in (1, len(hosts)):
        raise ValueError(f"it has {len(hosts)} hosts and {len(ports)} ports.")
    if any(port and not (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        raise ValueError("a port is a number from 1 to 65535.")
    return config


def _hosts(text: str) -> dict[str, str]:
    found = [_HOST.fullmatch(part) for part in text.split(",")]
    if None in found:
        raise ValueError("write its hosts as host1:5432,host2:5432.")
    hosts = [unquote(each["host"].strip("[]")) for each in found if each]
    ports = [each["port"] or DEFAULT_PORT for each in found if each]
    return {"HOST": ",".join(hosts), "PORT": ",".join(ports)}


def _postgresql(config: dict[str, Any]) -> dict[str, Any]:
    has_several_hosts = "," in str(config["HOST"])
    # A silent server is given up before the client gives up: seconds to connect, milliseconds to answer.
    timeouts: dict[str, Any] = {"connect_timeout": 2 if has_several_hosts else 3, "tcp_user_timeout": 15_000}
    # A dead peer is noticed after 15 seconds, not after the kernel's two hours.
    timeouts |= {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
    # Of several hosts, connect to the primary and not to the first that answers.
    primary = {"target_session_attrs": "read-write"} if has_several_hosts else {}
    # Values are sent separately from a statement and never in its text.
    options = timeouts | primary | {"server_side_binding": True} | config["OPTIONS"]
    # A cursor that stays open between statements would be lost when a pooler gives its session to others.
    return {"ENGINE": "lokanetra.postgresql", "OPTIONS": options, "DISABLE_SERVER_SIDE_CURSORS": True}


def _sqlite(path: str) -> dict[str, Any]:
    """One writer at a time, which queues from its first statement, and commits that survive a power cut."""
    return {
        "NAME": path if path == ":memory:" else str(BASE_DIR / path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON;",
        },
        # A file: threads do not share an in-memory database well.
        "TEST": {"NAME": str(BASE_DIR / ".test.sqlite3")},
    }


def cache(name: str) -> dict[str, Any]:
    """A Redis URL as Django's settings; without one, each process has a cache of its own."""
    url = text(name)
    if url is None:
        # Large enough that no counter is evicted while it is still needed.
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    # Seconds. A slower cache is useless: requests continue without it.
    timeouts = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5}
    return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url, "OPTIONS": timeouts}


def secrets(name: str) -> list[str]:
    """Comma-separated secrets, the newest first; none where it is not set."""
    return [_long_enough(name, value) for value in listing(name)]


def secret(name: str, development: str | None) -> str:
    """A secret of at least 50 characters, or `development` where the variable is not set."""
    value = text(name) or development
    if value is None:
        raise ImproperlyConfigured(
            f"{name} is required when DEBUG is off. Make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(50))"'
        )
    return _long_enough(name, value)


def secret_or_derived(name: str, master: str) -> str:
    """A separate secret, or else one derived from `master`, so that the two are never the same key."""
    return secret(name, hmac.new(master.encode(), name.encode(), hashlib.sha256).hexdigest())


def _long_enough(name: str, value: str) -> str:
    if len(value) < 50:
        raise ImproperlyConfigured(f"{name} has {len(value)} characters: write at least 50.")
    return value


def _matching(name: str, pattern: str, wanted: str, default: str) -> str:
    value = text(name, default)
    if not re.fullmatch(pattern, value, re.ASCII):
        raise ImproperlyConfigured(f"{name} is {value!r}: write {wanted}.")
    return value
