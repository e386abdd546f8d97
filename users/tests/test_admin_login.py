"""Attempts to log in to the console are limited, and a block ends by itself."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone


@pytest.fixture
def log_in(boss):
    def attempt(password: str, username: str = "boss", address: str = "192.0.2.1") -> int:
        form = {"username": username, "password": password}
        return Client(REMOTE_ADDR=address).post("/admin/login/?next=/admin/", form).status_code

    return attempt


REFUSED, IN = 200, 302


def test_ten_wrong_passwords_block_this_caller_alone(log_in):
    assert [log_in("wrong") for _ in range(10)] == [REFUSED] * 10
    assert log_in("correct horse") == REFUSED
    assert log_in("correct horse", address="192.0.2.2") == IN


def test_the_block_ends_by_itself(log_in, monkeypatch):
    for _ in range(11):
        log_in("wrong")
    later = timezone.now() + timedelta(minutes=15)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert log_in("correct horse") == IN


def test_successful_logins_are_not_counted(log_in):
    assert {log_in("correct horse") for _ in range(12)} == {IN}


def test_one_address_tries_a_hundred_names_and_no_more(log_in):
    for number in range(100):
        log_in("wrong", username=f"name {number}")
    assert log_in("correct horse") == REFUSED
    assert log_in("correct horse", address="192.0.2.2") == IN


@pytest.mark.parametrize("username", ["", "x" * 150, "x" * 1000, "a\0b", "ब" * 150])
def test_a_strange_name_is_refused_like_any_other(log_in, username):
    assert log_in("wrong", username=username) == REFUSED
