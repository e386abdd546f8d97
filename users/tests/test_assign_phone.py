"""Phone numbers for many accounts at once: all of a file or none of it, and every bad row named."""

import io
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from lokanetra.env import BASE_DIR
from lokanetra.plurals import how_many
from users import accounts
from users.models import Login, UserProfile


@pytest.fixture
def people(db):
    """Three accounts without a phone."""
    return [UserProfile.objects.create_user(name) for name in ("kavya", "maya", "vikram")]


@pytest.fixture
def assign(tmp_path):
    """Runs the command on a file with this content; returns its output, and that on stderr."""

    def run(content, *options):
        path = tmp_path / "phones.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        out, err = io.StringIO(), io.StringIO()
        try:
            call_command("assign_phone", "--file", str(path), *options, stdout=out, stderr=err)
        except CommandError as error:
            return None, err.getvalue() + str(error)
        return out.getvalue(), err.getvalue()

    return run


def phones_of():
    return dict(UserProfile.objects.order_by("username").values_list("username", "phone_number"))


HEADER = "username,phone_number\n"


def test_a_file_is_assigned_in_any_spelling(people, assign):
    output, _ = assign(f"\ufeff{HEADER.strip()}\r\nkavya,99999 99999\r\n\r\nmaya,+919888888888\r\n")
    assert output == "2 of 2 accounts changed.\n"
    assert phones_of() == {"kavya": "+919999999999", "maya": "+919888888888", "vikram": None}


def test_numbers_are_swapped_and_handed_on(asha, ravi, people, assign):
    output, _ = assign(f"{HEADER}{asha.username},9888888888\n{ravi.username},9777777777\nkavya,9999999999\n")
    assert output == "3 of 3 accounts changed.\n"
    assert phones_of() | {"maya": None} == {
        "user_9999999999": "+919888888888",
        "user_9888888888": "+919777777777",
        "kavya": "+919999999999",
        "maya": None,
        "vikram": None,
    }


def test_logins_of_changed_accounts_end_and_of_no_others(asha, ravi, as_user, assign):
    hers, his = as_user(asha), as_user(ravi)
    output, _ = assign(f"{HEADER}{asha.username},9999999999\n{ravi.username},9777777777\n")
    assert output == "1 of 2 accounts changed.\n"
    assert (hers.get("/auth/me/").status_code, his.get("/auth/me/").status_code) == (200, 401)
    assert Login.objects.filter(ended_at=None).count() == 1


def test_every_bad_row_is_named_and_nothing_is_changed(asha, people, assign):
    before = phones_of()
    output, errors = assign(
        HEADER
        + "kavya,9111111111\n"
        + "nobody,9222222222\n"
        + "maya,12345\n"
        + "vikram,9999999999\n"
        + ",9333333333\n"
        + "x,y,z\n"
        + "kavya,9444444444\n"
        + f"{asha.username},022 2345 6789\n"
    )
    assert output is None
    lines = [line.split(":")[0] for line in errors.splitlines()]
    assert lines == [
        *(f"line {n}" for n in range(2, 10)),
        "8 bad rows in " + errors.split(" bad rows in ")[1].split(":")[0],
    ]
    assert "line 3: nobody: There is no such user." in errors
    assert "line 5: vikram: This phone number belongs to another account." in errors
    assert "line 6: ,9333333333: a row has a username and a phone number" in errors
    assert "line 8: kavya,9444444444: this username is there more than once" in errors
    assert phones_of() == before


def test_one_number_for_two_accounts_is_refused(people, assign):
    _, errors = assign(f"{HEADER}kavya,9111111111\nmaya,+91 91111 11111\n")
    assert "line 3: maya,+91 91111 11111: this phone number is in line 2 already" in errors
    assert "\n1 bad row in " in errors
    assert set(phones_of().values()) == {None}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The first line"),
        (b"kavya,9111111111\n", "The first line"),
        (b"username;phone_number\nkavya;9111111111\n", "The first line"),
        (b"username,phone_number\nkavya,\xff9111111111\n", "line 2: this is not UTF-8"),
        (b'username,phone_number\n"kavya,9111111111\n', "line 2: unexpected end of data"),
        (b"username,phone_number\nkavya,9111\x00111111\n", "line 2"),
    ],
)
def test_a_malformed_file_is_reported(people, assign, content, says):
    output, errors = assign(content)
    assert output is None and says in errors
    assert set(phones_of().values()) == {None}


def test_a_missing_file_is_reported(db):
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("assign_phone", "--file", "/nowhere.csv")


def test_a_dry_run_reports_and_changes_nothing(people, assign, capsys):
    output, _ = assign(f"{HEADER}kavya,9111111111\n", "--dry-run")
    assert output == "1 of 1 account would be changed.\n"
    call_command("assign_phone", "maya", "9222222222", "--dry-run")
    assert capsys.readouterr().out == "maya would log in with 9222222222.\n"
    assert set(phones_of().values()) == {None}


def test_it_takes_as_many_queries_for_a_hundred_rows_as_for_one(assign, db):
    names = [f"user{n}" for n in range(101)]
    for name in names:
        UserProfile.objects.create(username=name)

    def queries(some):
        content = HEADER + "".join(f"{name},98{int(name[4:]):08}\n" for name in some)
        with CaptureQueriesContext(connection) as captured:
            assert assign(content)[0] == f"{len(some)} of {how_many(len(some), 'account')} changed.\n"
        return len(captured)

    assert queries(names[:1]) == queries(names[1:])


def test_on_a_terminal_it_asks_for_each_account_without_a_phone(people, asha, monkeypatch, capsys):
    typed = iter(["not a number", "9999999999", "9111111111", "", "9222222222"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    call_command("assign_phone")
    assert phones_of() | {asha.username: None} == {
        asha.username: None,
        "kavya": "+919111111111",
        "maya": None,
        "vikram": "+919222222222",
    }
    output = capsys.readouterr()
    assert "3 accounts have no phone number." in output.out
    assert "belongs to another account" in output.err


@pytest.mark.parametrize("arguments", [[], ["kavya"], ["kavya", "9111111111", "--file", "x.csv"]])
def test_the_script_says_how_it_is_used(arguments):
    done = subprocess.run(
        [BASE_DIR / "scripts" / "assign_phone.sh", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert "USERNAME PHONE, or --file FILE" in done.stderr


@pytest.fixture
def product(tmp_path):
    """Runs a command of the product on a database of its own, as people do in a terminal."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | {
        "PYTHON_DOTENV_DISABLED": "1",
        "VIRTUAL_ENV": sys.prefix,
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "DJANGO_SUPERUSER_PASSWORD": "correct horse",
        "OTP_SMS_URL": "json://127.0.0.1:9/{phone}",
    }

    def run(*command):
        return subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.once
def test_people_see_what_was_done_and_not_what_is_logged(product, tmp_path):
    manage, script = (sys.executable, "manage.py"), "scripts/assign_phone.sh"
    assert product(*manage, "migrate", "--verbosity", "0").stderr == ""
    product(*manage, "createsuperuser", "--no-input", "--username", "admin", "--email", "a@example.com")
    one = product(script, "admin", "9000000001")
    assert (one.stdout, one.stderr) == ("admin now logs in with 9000000001.\n", "")
    file = tmp_path / "phones.csv"
    file.write_text(f"{HEADER}admin,9000000002\n")
    many = product(script, "--file", str(file))
    assert (many.stdout, many.stderr) == ("1 of 1 account changed.\n", "")
    file.write_text(f"{HEADER}nobody,9000000002\n")
    refused = product(script, "--file", str(file))
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "line 2: nobody: There is no such user.",
        f"CommandError: 1 bad row in {file}: nothing was changed.",
    ]
    books = product(*manage, "check_ledger")
    assert (books.stdout, books.stderr) == ("1 wallet agrees with the ledger.\n", "")
    assert (
        "ERROR users.sms [-] the SMS gateway did not accept a message"
        in product(*manage, "send_test_sms", "9000000001").stderr
    )


def test_a_number_taken_in_between_is_reported(people, monkeypatch):
    monkeypatch.setattr(accounts, "_check_phones", lambda wanted, users: None)
    accounts.create(phone_number="+919111111111")
    with pytest.raises(accounts.ValidationError, match="taken just now"):
        accounts.assign_phones({"kavya": "+919111111111"})
