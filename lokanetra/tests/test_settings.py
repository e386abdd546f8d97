"""Production starts with what it needs or says what is missing, and the rate limit counts the right callers."""

import os
import shutil
import socket
import subprocess
import sys
import time
import zoneinfo
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings as product
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper

from lokanetra import checks, env, postgresql
from lokanetra.postgresql.base import DatabaseWrapper as ServerWrapper
from lokanetra.throttles import RateLimit

ROOT = Path(product.BASE_DIR)
SECRET = "a-production-secret-of-these-tests-that-is-long-enough"
PRODUCTION = {
    "DJANGO_SECRET_KEY": SECRET,
    "DEBUG": "off",
    "ALLOWED_HOSTS": "wallet.example.com",
    "OTP_SMS_URL": "json://sms.example.com/{phone}",
    "DATABASE_URL": "postgresql://lokanetra:hunter2@db.example.com:5432/lokanetra",
}


def run(*command, environment=None, cwd=ROOT, dotenv=False):
    """Run Python in a new process, without this one's environment."""
    variables = {
        "PATH": os.environ["PATH"],
        **({} if dotenv else {"PYTHON_DOTENV_DISABLED": "1"}),
        **(environment or {}),
    }
    return subprocess.run(
        [sys.executable, *command], env=variables, cwd=cwd, capture_output=True, text=True, check=False
    )


def setting(name, **environment):
    """The value of a setting in a process with these variables."""
    found = run("-c", f"from lokanetra import settings; print(settings.{name})", environment=PRODUCTION | environment)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


# --- What production refuses ---------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"DJANGO_SECRET_KEY": ""}, "DJANGO_SECRET_KEY is required when DEBUG is off."),
        ({"DJANGO_SECRET_KEY": "x" * 49}, "DJANGO_SECRET_KEY has 49 characters: write at least 50."),
        ({"JWT_SIGNING_KEY": "short"}, "JWT_SIGNING_KEY has 5 characters: write at least 50."),
        ({"OTP_PEPPER": "short"}, "OTP_PEPPER has 5 characters: write at least 50."),
        ({"WEBHOOK_SECRET_KEY": SECRET + ",short"}, "WEBHOOK_SECRET_KEY has 5 characters: write at least 50."),
        ({"DJANGO_SECRET_KEY_FALLBACKS": "short"}, "DJANGO_SECRET_KEY_FALLBACKS has 5 characters: write at least 50."),
        (
            {"WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8,10.0.0.1/8"},
            "WEBHOOK_ALLOWED_NETWORKS: 10.0.0.1/8 has host bits set",
        ),
        ({"WEBHOOK_ALLOWED_NETWORKS": "intranet"}, "WEBHOOK_ALLOWED_NETWORKS: 'intranet' does not appear to be"),
        ({"OTP_ECHO": "on"}, "OTP_ECHO is on while DEBUG is off."),
        ({"OTP_SMS_URL": ""}, "Nothing delivers the codes: OTP_SMS_URL is not set."),
        ({"OTP_SMS_URL": "json://user:hunter2@sms.example.com/"}, "OTP_SMS_URL has no {phone} in it."),
        ({"OTP_SMS_TEXT": "Your code is in the post."}, "OTP_SMS_TEXT does not contain the code."),
        ({"OTP_SMS_TEXT": "{code}, {name}"}, "OTP_SMS_TEXT does not contain the code."),
        ({"OTP_SMS_TEXT": "{code} {"}, "OTP_SMS_TEXT does not contain the code."),
        ({"PHONE_REGION": "in"}, "There is no region in."),
        ({"OTP_REGIONS": "IN,XX"}, "There is no region XX."),
    ],
)
def test_production_refuses_to_start(changed, sentence):
    refused = run("manage.py", "check", "--deploy", environment=PRODUCTION | changed)
    output = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert sentence in output
    assert "Traceback" not in output
    assert "hunter2" not in output


def test_production_warns_of_users_who_credit_themselves(settings):
    settings.DEBUG, settings.WALLET_SELF_CREDIT = False, True
    assert [warning.id for warning in checks.self_credit()] == ["lokanetra.W001"]
    settings.WALLET_SELF_CREDIT = False
    assert checks.self_credit() == []


def warns_of_the_role(role: str) -> bool:
    """Whether the check warns when the connection uses this role."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {role}")
        found = checks.database_role(databases=["default"])
        cursor.execute("RESET ROLE")
    return [warning.id for warning in found] == ["lokanetra.W002"]


def test_production_warns_of_a_role_that_could_switch_the_triggers_off(db):
    if connection.vendor != "postgresql":
        assert checks.database_role(databases=["default"]) == []
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE ROLE root SUPERUSER; CREATE ROLE owner; CREATE ROLE heir IN ROLE owner; CREATE ROLE server"
        )
        cursor.execute("ALTER TABLE transactions_transaction OWNER TO owner")
    assert {role: warns_of_the_role(role) for role in ("root", "owner", "heir", "server")} == {
        "root": True,
        "owner": True,
        "heir": True,
        "server": False,
    }


def test_checks_query_only_the_given_databases(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert checks.database_role() == checks.database_role(databases=[]) == []


@pytest.mark.once
def test_prepare_succeeds_despite_warnings_and_without_a_database():
    away = {"DATABASE_URL": "postgresql://lokanetra:hunter2@127.0.0.1:9/lokanetra", "WALLET_SELF_CREDIT": "on"}
    prepared = run("manage.py", "prepare", environment=PRODUCTION | away)
    assert prepared.returncode == 0, prepared.stderr
    assert "lokanetra.W001" in prepared.stderr
    assert "hunter2" not in prepared.stderr


@pytest.mark.once
def test_production_settings_are_clean():
    clean = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", environment=PRODUCTION)
    assert clean.returncode == 0, clean.stderr


@pytest.mark.once
def test_a_bare_checkout_is_in_development_through_manage_py_alone():
    shell = "from django.conf import settings; print(settings.DEBUG, settings.OTP_ECHO)"
    assert run("manage.py", "shell", "--no-imports", "-c", shell).stdout.strip() == "True True"
    refused = run("-c", "import lokanetra.wsgi")
    assert refused.returncode != 0
    assert "DJANGO_SECRET_KEY is required when DEBUG is off." in refused.stderr


@pytest.mark.once
def test_a_checkout_with_one_variable_set_is_not_bare():
    assert run("manage.py", "check", environment={"DEBUG": "off"}).returncode != 0
    refused = run("manage.py", "check", environment={"DJANGO_SECRET_KEY": SECRET})
    assert "OTP_SMS_URL is not set" in refused.stderr


@pytest.fixture
def copy(tmp_path):
    """The project's package and `manage.py` in a separate folder, for a separate `.env`."""
    shutil.copytree(ROOT / "lokanetra", tmp_path / "lokanetra", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    shutil.copy(ROOT / "manage.py", tmp_path)
    return tmp_path


@pytest.mark.once
def test_the_env_file_is_read_by_every_process_and_never_over_a_variable(copy):
    (copy / ".env").write_text(f"DJANGO_SECRET_KEY={SECRET}\nWALLET_CURRENCY=EUR\nPHONE_REGION=DE\n")
    script = "from lokanetra import settings as s; print(s.DEBUG, s.WALLET_CURRENCY, s.PHONE_REGION, s.OTP_REGIONS)"
    found = run("-c", script, environment={"PHONE_REGION": "IN", "PYTHONPATH": str(copy)}, cwd="/", dotenv=True)
    assert found.stdout.strip() == "False EUR IN ['IN']", found.stderr


@pytest.mark.once
@pytest.mark.parametrize("line", [f"DJANGO_SECRET_KEY={SECRET}", "DEBUG=off"])
def test_manage_py_respects_the_env_file(copy, line):
    (copy / ".env").write_text(f"{line}\n")
    refused = run("manage.py", "check", environment={"PYTHONPATH": str(ROOT)}, cwd=copy, dotenv=True)
    assert refused.returncode != 0
    assert ("OTP_SMS_URL is not set" if "SECRET" in line else "DJANGO_SECRET_KEY is required") in refused.stderr


# --- How values are read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "maybe"),
        ("OTP_ECHO", "2"),
        ("WALLET_SELF_CREDIT", "tru"),
        ("IDEMPOTENCY_REQUIRED", "none"),
        ("OTP_COOLDOWN", "-1"),
        ("OTP_SENDS_PER_ADDRESS", "many"),
        ("OTP_SENDS_PER_DAY", "1e3"),
        ("NUM_PROXIES", "١"),
        ("WALLET_MAX_AMOUNT", "1,000.00"),
        ("WALLET_MAX_BALANCE", "NaN"),
        ("CLIENT_IPV6_PREFIX", "/64"),
        ("CLIENT_IPV6_PREFIX", "0"),
        ("CLIENT_IPV6_PREFIX", "129"),
        *(("NIGHTLY_AT", time) for time in ("2:30", "24:00", "02:60", "02:30:00", "٠٢:٣٠", "night")),
        *(("TIME_ZONE", zone) for zone in ("IST", "Asia", "asia/kolkata", "+05:30", "localtime", "../UTC")),
        *(("SCRIPT_NAME", path) for path in ("pay", "//pay", "/pay//", "/../pay", "/pay/.", "https://x", "/a b")),
        ("API_RATE_LIMIT", "600"),
        ("API_RATE_LIMIT", "0/min"),
        ("API_RATE_LIMIT", "600/fortnight"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mongodb://lokanetra:hunter2@db/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:hunter2/x@db/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:x[hunter2@db/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:x@db:hunter2/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:hunter2@a:5432,,b/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:hunter2@a:port,b/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:hunter2@a:65536,b/wallet"),
        ("DATABASE_URL", "postgresql://lokanetra:hunter2@/wallet?host=a,b,c&port=1,2"),
        ("DATABASE_REPLICA_URL", "sqlite:///hunter2.sqlite3"),
        ("DATABASE_REPLICA_URL", "postgresql://lokanetra:hunter2@a,b/wallet"),
        ("REPLICA_MAX_LAG", "10s"),
        ("SENTRY_DSN", "sentry.example.com"),
        ("SENTRY_DSN", "https://key@sentry.example.com"),
    ],
)
def test_a_value_that_cannot_be_read_names_its_variable_and_leaks_no_password(name, value):
    refused = run("-c", "import lokanetra.settings", environment=PRODUCTION | {name: value})
    assert refused.returncode != 0
    assert f"ImproperlyConfigured: {name} " in refused.stderr
    assert "hunter2" not in refused.stderr


PAIR = {"HOST": "a,b", "PORT": "5432,5433", "USER": "me", "PASSWORD": "p@,s", "NAME": "wallet"}


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgresql://me:p%40,s@a,b:5433/wallet", PAIR),
        ("postgresql://me:p%40,s@/wallet?host=a,b&port=5432,5433", PAIR),
        ("postgres://[::1]:5433,b/wallet", {"HOST": "::1,b", "PORT": "5433,5432", "USER": ""}),
        ("postgresql://%2Frun%2Fa,%2Frun%2Fb/wallet", {"HOST": "/run/a,/run/b"}),
        ("postgresql:///wallet?host=a,b&port=6432", {"HOST": "a,b", "PORT": "6432"}),
    ],
)
def test_a_database_may_have_several_hosts_of_which_the_primary_is_used(monkeypatch, url, read):
    monkeypatch.setenv("A_DATABASE", url)
    found = env.database("A_DATABASE", "")
    assert {name: found[name] for name in read} == read
    assert found["OPTIONS"]["target_session_attrs"] == "read-write"
    monkeypatch.setenv("A_DATABASE", url + ("&" if "?" in url else "?") + "target_session_attrs=any")
    assert env.database("A_DATABASE", "")["OPTIONS"]["target_session_attrs"] == "any"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("true", True),
        ("ON", True),
        ("Yes", True),
        ("1", True),
        ("false", False),
        ("Off", False),
        ("NO", False),
        ("0", False),
    ],
)
def test_a_boolean_is_read_in_every_usual_spelling(monkeypatch, value, read):
    monkeypatch.setenv("A_SWITCH", value)
    assert env.boolean("A_SWITCH", not read) is read


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_an_empty_variable_is_not_set(monkeypatch, empty):
    monkeypatch.delenv("A_NAME", raising=False)
    if empty is not None:
        monkeypatch.setenv("A_NAME", empty)
    assert env.boolean("A_NAME", True) is True
    assert env.integer("A_NAME", 30) == 30
    assert env.money("A_NAME", "1.50") == Decimal("1.50")
    assert env.listing("A_NAME", "a, b,,") == ["a", "b"]
    assert env.database("A_NAME", "sqlite:///x.sqlite3")["NAME"] == str(ROOT / "x.sqlite3")
    assert env.rate("A_NAME", "600/min") == ((600, 60) if empty is None else None)  # here empty means off


@pytest.mark.parametrize(
    ("value", "read"),
    [("5/s", (5, 1)), ("5/sec", (5, 1)), ("600/min", (600, 60)), ("9/hour", (9, 3600)), ("1/day", (1, 86400))],
)
def test_a_rate_is_calls_in_seconds(monkeypatch, value, read):
    monkeypatch.setenv("A_RATE", value)
    assert env.rate("A_RATE", "1/s") == read


@pytest.mark.parametrize(
    ("value", "read"),
    [("", None), ("/", None), ("/pay", "/pay"), ("/pay/", "/pay"), ("/a/b-c_d.e~1", "/a/b-c_d.e~1")],
)
def test_a_prefix_has_no_slash_at_its_end(monkeypatch, value, read):
    monkeypatch.setenv("A_PREFIX", value)
    assert env.path_prefix("A_PREFIX") == read


@pytest.mark.parametrize("url", ["sqlite:///data/x.sqlite3", "sqlite:////srv/x.sqlite3"])
def test_a_relative_sqlite_path_is_relative_to_the_project(monkeypatch, tmp_path, url):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A_DATABASE", url)
    wanted = "/srv/x.sqlite3" if "srv" in url else str(ROOT / "data/x.sqlite3")
    assert env.database("A_DATABASE", "")["NAME"] == wanted


def test_no_cursor_stays_open_in_a_session_that_a_pooler_may_give_to_others(monkeypatch):
    """Forms of the console read their choices with `iterator`, which would open one."""
    monkeypatch.setenv("A_DATABASE", "postgresql://user:secret@db/name")
    assert env.database("A_DATABASE", "")["DISABLE_SERVER_SIDE_CURSORS"]


def test_several_postgresql_hosts_reach_the_driver(monkeypatch):
    hosts = "host=h1,h2&port=5432,5433&target_session_attrs=read-write"
    monkeypatch.setenv("A_DATABASE", f"postgresql://user:pass%40word@/name?{hosts}")
    config = env.database("A_DATABASE", "")
    given = DatabaseWrapper(config | {"TIME_ZONE": None, "HOST": config.get("HOST") or ""}).get_connection_params()
    assert {name: given[name] for name in ("dbname", "user", "password", "host", "port", "target_session_attrs")} == {
        "dbname": "name", "user": "user", "password": "pass@word", "host": "h1,h2", "port": "5432,5433",
        "target_session_attrs": "read-write",
    }  # fmt: skip


@pytest.mark.parametrize(
    "in_url, in_environment, own",
    [("", "", ""), ("?options=-c%20work_mem%3D8MB", "-c x=1", " -c work_mem=8MB"), ("", "-c geqo=off", " -c geqo=off")],
)
def test_limits_of_a_server_are_combined_with_the_operators_options(monkeypatch, in_url, in_environment, own):
    monkeypatch.setenv("A_DATABASE", f"postgresql://user@h1/name{in_url}")
    monkeypatch.setenv("PGOPTIONS", in_environment)
    config = env.database("A_DATABASE", "") | {"TIME_ZONE": None}
    for serving in (True, False):
        monkeypatch.setattr(postgresql, "serving", serving)
        options = ServerWrapper(config).get_connection_params()["options"]
        limits = "-c lock_timeout=3s -c statement_timeout=10s" if serving else "-c statement_timeout=0"
        assert options == limits + own


def test_patient_work_has_a_lock_timeout_but_no_statement_timeout(monkeypatch):
    monkeypatch.setenv("A_DATABASE", "postgresql://user@h1/name")
    monkeypatch.delenv("PGOPTIONS", raising=False)
    monkeypatch.setattr(postgresql, "serving", True)
    server = ServerWrapper(env.database("A_DATABASE", "") | {"TIME_ZONE": None})
    server.patient = True
    assert server.get_connection_params()["options"] == "-c lock_timeout=3s -c statement_timeout=0"


def test_nightly_jobs_run_at_half_past_two_by_default():
    assert setting("NIGHTLY_AT") == "02:30:00"
    assert setting("NIGHTLY_AT", NIGHTLY_AT="23:05") == "23:05:00"


def test_a_silent_server_is_noticed_by_the_kernel_too(monkeypatch):
    monkeypatch.setenv("A_DATABASE", "postgresql://user@h1/name")
    options = env.database("A_DATABASE", "")["OPTIONS"]
    assert options["tcp_user_timeout"] <= 15_000
    assert options["keepalives_idle"] + options["keepalives_count"] * options["keepalives_interval"] <= 15


def test_proxies_are_trusted_only_where_there_are_any():
    assert setting("REST_FRAMEWORK['NUM_PROXIES'], settings.SECURE_PROXY_SSL_HEADER") == "0 None"
    wired = setting("REST_FRAMEWORK['NUM_PROXIES'], settings.SECURE_PROXY_SSL_HEADER", NUM_PROXIES="2")
    assert wired == "2 ('HTTP_X_FORWARDED_PROTO', 'https')"


def test_hsts_covers_subdomains_only_if_set():
    wanted = "SECURE_HSTS_SECONDS, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS, settings.SECURE_HSTS_PRELOAD"
    assert setting(wanted) == "31536000 False False"
    both = {"SECURE_HSTS_INCLUDE_SUBDOMAINS": "on", "SECURE_HSTS_PRELOAD": "on"}
    assert setting(wanted, **both) == "31536000 True True"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Argentina/Buenos_Aires", "Etc/GMT+5"])
def test_a_time_zone_is_an_iana_name(monkeypatch, zone):
    monkeypatch.setenv("A_ZONE", zone)
    assert env.time_zone("A_ZONE", "Asia/Kolkata") == zone


def test_the_time_zone_is_indias_by_default():
    assert setting("TIME_ZONE") == "Asia/Kolkata"
    assert setting("TIME_ZONE", TIME_ZONE="Europe/Berlin") == "Europe/Berlin"


def test_a_machine_without_time_zones_is_told_to_install_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache(only_keys=["Asia/Colombo"])
    try:
        with pytest.raises(ImproperlyConfigured, match=r"^A_ZONE is 'Asia/Colombo', .* or install tzdata"):
            env.time_zone("A_ZONE", "Asia/Colombo")
    finally:
        zoneinfo.reset_tzpath()


def test_derived_secrets_differ():
    keys = setting("SECRET_KEY, settings.JWT_SIGNING_KEY, settings.OTP_PEPPER").split()
    assert len(set(keys)) == 3


def test_production_is_strict_where_development_is_not():
    strict = (
        "settings.DEBUG, settings.OTP_ECHO, settings.WALLET_SELF_CREDIT, settings.OTP_COOLDOWN, settings.API_RATE_LIMIT"
    )
    assert setting(strict.removeprefix("settings.")) == "False False False 30 (600, 60)"
    assert setting("API_RATE_LIMIT", API_RATE_LIMIT="") == "None"


# --- HTTPS ---------------------------------------------------------------------------------------------


def test_https_is_required_and_a_proxy_trusted_only_if_there_is_one(settings, nobody):
    settings.SECURE_SSL_REDIRECT = True
    forged = {"HTTP_X_FORWARDED_PROTO": "https"}
    response = nobody.get("/wallet/balance/", **forged)
    assert (response.status_code, response["Location"]) == (301, "https://testserver/wallet/balance/")
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert nobody.get("/wallet/balance/", **forged).status_code == 401
    assert nobody.get("/healthz").status_code == 200


# --- The rate limit ------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch, settings):
    """Three calls a minute, and a stopped clock that tests move forward."""
    settings.API_RATE_LIMIT = (3, 60)
    now = [1_800_000_010.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def statuses(client, path="/transactions/", calls=4, **headers):
    return [client.get(path, **headers).status_code for _ in range(calls)]


def test_the_fourth_call_of_a_user_must_wait_for_the_next_window(clock, asha, ravi, as_user):
    client = as_user(asha)
    assert statuses(client) == [200, 200, 200, 429]
    assert statuses(client, "/wallet/balance/", calls=1) == [429]
    refused = client.get("/transactions/", REMOTE_ADDR="192.0.2.7")
    assert (refused.status_code, refused["Content-Type"]) == (429, "application/problem+json")
    assert (refused.json()["code"], refused["Retry-After"]) == ("throttled", "50")
    assert statuses(as_user(ravi)) == [200, 200, 200, 429]
    clock[0] += 49
    assert statuses(client, calls=1) == [429]
    clock[0] += 1
    assert statuses(client) == [200, 200, 200, 429]


def test_callers_without_a_login_are_counted_by_address_and_their_headers_ignored(clock, nobody):
    rotated = [nobody.post("/auth/verify-otp/", {}, HTTP_X_FORWARDED_FOR=f"192.0.2.{n}").status_code for n in range(5)]
    assert rotated == [400, 400, 400, 429, 429]
    assert nobody.post("/auth/verify-otp/", {}, REMOTE_ADDR="192.0.2.1").status_code == 400


def test_behind_one_proxy_the_last_address_is_the_caller(clock, nobody, settings):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    sent = [f"192.0.2.{n}, 198.51.100.1" for n in range(4)]
    assert [nobody.post("/auth/verify-otp/", {}, HTTP_X_FORWARDED_FOR=header).status_code for header in sent] == [
        400, 400, 400, 429,
    ]  # fmt: skip
    assert nobody.post("/auth/verify-otp/", {}, HTTP_X_FORWARDED_FOR="192.0.2.0, 198.51.100.2").status_code == 400


def test_health_and_documentation_are_not_limited_and_empty_is_no_limit(clock, db, nobody, settings):
    for path in ("/healthz", "/readyz", "/swagger.json"):
        assert statuses(nobody, path, calls=5) == [200] * 5
    settings.API_RATE_LIMIT = None
    assert [nobody.post("/auth/verify-otp/", {}).status_code for _ in range(5)] == [400] * 5


@pytest.fixture
def lost_cache(settings, monkeypatch):
    """A cache that accepts connections and does not answer."""
    monkeypatch.setattr(RateLimit, "disabled_until", 0.0)
    settings.API_RATE_LIMIT = (1, 60)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        redis = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("REDIS_URL", redis)
        settings.CACHES = {"default": env.cache("REDIS_URL")}
        yield


def test_a_hanging_cache_limits_nobody_delays_one_call_and_is_logged(asha, as_user, lost_cache, caplog):
    client, took = as_user(asha), []
    for _ in range(5):
        before = time.monotonic()
        assert client.get("/wallet/balance/").status_code == 200
        took.append(time.monotonic() - before)
    assert sorted(seconds > 0.4 for seconds in took) == [False] * 4 + [True]
    assert caplog.text.count("the cache fails") == 1


def test_a_cache_that_is_back_counts_again(asha, as_user, lost_cache, settings, monkeypatch):
    client = as_user(asha)
    assert [client.get("/wallet/balance/").status_code for _ in range(3)] == [200] * 3
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    monkeypatch.setattr(RateLimit, "disabled_until", time.monotonic())
    assert [client.get("/wallet/balance/").status_code for _ in range(3)] == [200, 429, 429]
