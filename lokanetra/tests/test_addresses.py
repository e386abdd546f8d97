"""One client is counted once, however the proxies write its address, and two clients are not counted as one."""

import pytest
from django.test import Client, RequestFactory

from lokanetra.addresses import address_of, client_of

PROXY = "198.51.100.1"
V4 = [
    "203.0.113.8", "203.0.113.8:5000", "203.0.113.8:5001", "  203.0.113.8\t", '"203.0.113.8"', '"203.0.113.8:443"',
    "[203.0.113.8]:443", "::ffff:203.0.113.8", "::FFFF:cb00:7108", "[::ffff:203.0.113.8]:5000",
    '"[::ffff:203.0.113.8]"', "64:ff9b::203.0.113.8", "2002:cb00:7108::1", "192.0.2.1, 203.0.113.8",
    "192.0.2.1,203.0.113.8:5000", "unknown, 203.0.113.8", ",, 203.0.113.8", "203.0.113.8, ", "203.0.113.8 , ,",
    "192.0.2.1, 192.0.2.2, 192.0.2.3, 203.0.113.8",
]  # fmt: skip
V6 = [
    "2001:db8::1", "2001:DB8::1", "2001:0db8:0000:0000:0000:0000:0000:0001", "[2001:db8::1]", "[2001:db8::1]:443",
    '"[2001:db8::1]:5000"', "2001:db8::2", "2001:db8:0:0:ffff:ffff:ffff:ffff", "2001:db8::203.0.113.8",
    "2001:db8::1%eth0", "[2001:db8::1%25eth0]:443", "192.0.2.1, [2001:db8::77]:5001",
]  # fmt: skip
UNREADABLE = [
    "", " ", ",", "unknown", "_hidden", "example.com", "203.0.113", "203.0.113.8.9", "203.0.113.08", "203.0.113.256",
    "203.0.113.8:port", "203.0.113.8:", "203.0.113.8:123456", "203.0.113.8:5000:5000", "3405803784", "0xcb007108",
    "2001:db8::1::2", "[2001:db8::1", "2001:db8::1]:443", "[]", "[unknown]:443", "203.0.113.8/32", "२०३.०.११३.८",
    "203.0.113.8 192.0.2.1", "203.0.113.8;192.0.2.1", "for=203.0.113.8", "%eth0", "x" * 5000, "192.0.2.1, unknown",
    PROXY, f"{PROXY}:5000",
]  # fmt: skip


@pytest.fixture
def trust_proxies(settings):
    """Trusts so many proxies."""

    def trust(proxies: int) -> None:
        settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": proxies}

    trust(1)
    return trust


def client(forwarded: str | None = None, direct: str | None = PROXY) -> str:
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return client_of(RequestFactory().get("/", REMOTE_ADDR=direct, **headers))


@pytest.mark.parametrize(
    ("spellings", "counted"), [(V4, "203.0.113.8"), (V6, "2001:db8::/64"), (UNREADABLE, PROXY)], ids=["4", "6", "none"]
)
def test_all_spellings_are_one_client(trust_proxies, spellings, counted):
    assert {spelling: client(spelling) for spelling in spellings} == dict.fromkeys(spellings, counted)


def test_different_addresses_are_different_clients(trust_proxies):
    others = [
        "203.0.113.8", "203.0.113.9", "192.0.2.8", "2001:db8::1", "2001:db8:0:1::1", "2001:db9::1", "fe80::1",
        "::1", "64:ff9b::203.0.113.10", "64:ff9b:1::203.0.113.10", "2002:cb00:710b::1",
        "::ffff:203.0.113.12", "unknown",
    ]  # fmt: skip
    assert len({client(spelling) for spelling in others}) == len(others)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (0, "203.0.113.8", PROXY),
        (1, "192.0.2.1, 203.0.113.8", "203.0.113.8"),
        (2, "192.0.2.1, 203.0.113.8:5000, 192.0.2.9", "203.0.113.8"),
        (2, "192.0.2.1,, 203.0.113.8, ,192.0.2.9", "203.0.113.8"),
        (2, "203.0.113.8", "203.0.113.8"),
        (3, "203.0.113.8, 192.0.2.9", "203.0.113.8"),
        (1, None, PROXY),
    ],
)
def test_only_the_configured_number_of_proxies_is_trusted(trust_proxies, proxies, forwarded, counted):
    trust_proxies(proxies)
    assert client(forwarded) == counted


@pytest.mark.parametrize(
    ("direct", "counted"),
    [
        ("::ffff:203.0.113.8", "203.0.113.8"),
        ("203.0.113.8:5000", "203.0.113.8"),
        ("FE80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
        ("unix:", ""),
    ],
)
def test_a_direct_address_is_parsed_in_the_same_way(direct, counted):
    assert client(direct=direct) == counted


@pytest.mark.parametrize(("prefix", "clients"), [(48, 1), (56, 2), (64, 3), (128, 4)])
def test_how_much_of_ipv6_is_one_client_is_a_setting(trust_proxies, settings, prefix, clients):
    settings.CLIENT_IPV6_PREFIX = prefix
    spellings = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:0:100::1"]
    assert len({client(spelling) for spelling in spellings}) == clients


def test_the_log_has_the_whole_address(trust_proxies):
    request = RequestFactory().get("/", HTTP_X_FORWARDED_FOR="[2001:DB8::1]:443")
    assert str(address_of(request)) == "2001:db8::1"


# --- Limits --------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("spellings", [V4, V6, UNREADABLE], ids=["4", "6", "none"])
def test_api_rate_limit_counts_one_client_once(trust_proxies, settings, nobody, monkeypatch, spellings):
    settings.API_RATE_LIMIT = (len(spellings), 60)
    monkeypatch.setattr("time.time", lambda: 1_800_000_010.0)

    def call(address: str) -> int:
        headers = {"REMOTE_ADDR": PROXY, "HTTP_X_FORWARDED_FOR": address}
        return nobody.post("/auth/verify-otp/", {}, **headers).status_code

    assert {call(spelling) for spelling in spellings} == {400}
    assert {call(spelling) for spelling in spellings} == {429}
    assert call("192.0.2.77") == 400


@pytest.mark.django_db
@pytest.mark.parametrize("spellings", [V4, V6, UNREADABLE], ids=["4", "6", "none"])
def test_code_verification_counts_one_client_once(trust_proxies, nobody, spellings):
    def verify(address: str) -> int:
        body = {"phone_number": "9999999999", "otp": "123456"}
        return nobody.post("/auth/verify-otp/", body, HTTP_X_FORWARDED_FOR=address, REMOTE_ADDR=PROXY).status_code

    answers = [verify(spellings[n % len(spellings)]) for n in range(25)]
    assert answers == [400] * 20 + [429] * 5
    assert verify("192.0.2.77") == 400


@pytest.mark.django_db
def test_codes_sent_count_one_client_once(trust_proxies, settings, nobody):
    settings.OTP_SENDS_PER_ADDRESS = 3
    sent = [
        nobody.post(
            "/auth/send-otp/",
            {"phone_number": f"999999999{n}"},
            HTTP_X_FORWARDED_FOR=f"2001:db8::{n + 1}",
        ).status_code
        for n in range(5)
    ]
    assert sent == [201, 201, 201, 429, 429]


def test_the_console_counts_one_client_once(trust_proxies, boss):
    def log_in(password: str, address: str) -> int:
        form = {"username": "boss", "password": password}
        return Client().post("/admin/login/?next=/admin/", form, HTTP_X_FORWARDED_FOR=address).status_code

    assert {log_in("wrong", V4[n]) for n in range(10)} == {200}
    assert log_in("correct horse", "203.0.113.8:6000") == 200
    assert log_in("correct horse", "203.0.113.9:6000") == 302
