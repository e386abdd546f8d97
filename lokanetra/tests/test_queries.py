"""No query string and no id in a path breaks a list: it is accepted, or refused by name, on both databases."""

import pytest

from lokanetra.tests.test_errors import problem
from wallet.models import Tier

LISTS = ["/transactions/", "/transactions/statement/", "/transactions/admin-list/", "/wallet/balance/",
         "/wallet/holds/", "/wallet/admin/wallets/", "/wallet/admin/holds/", "/wallet/admin/tiers/",
         "/auth/admin/users/", "/transactions/events/", "/transactions/webhooks/",
         "/transactions/webhooks/deliveries/", "/wallet/requests/", "/wallet/admin/requests/"]  # fmt: skip
FILES = ["/transactions/export/", "/transactions/admin-export/"]
TEXTS = [
    "", "%00", "a%00b", "%ff", "%ed%a0%80", "%F0%9F%98%80", "%", "%25", "_", "'", '"', "\\", "--", "(((((", "+", "-",
    "+91", "0", "-1", "1e3", "1.5", "0x10", "NaN", "Infinity", "9" * 30, "x" * 5_000, "x" * 60_000,
    "x+" * 2_000, "x+" * 127, "%D9%A3",
]  # fmt: skip
MOMENTS = [
    "0001-01-01", "0001-01-01T00:00:00%2B14:00", "0001-01-01T00:00:00-14:00", "0000-01-01", "9999-12-31",
    "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999-14:00", "9999-12-31T23:59:59.999999%2B14:00",
    "10000-01-01", "2026-02-30", "2026-01-31T24:00:00Z", "2026-01-31T09:30:60Z", "2026-01-31T09:30:00%2B99:99",
    "2026-01-31T09:30", "20260131", "2026-W05", "now", "1769850000",
]  # fmt: skip
BY_NAME = {
    "ordering": [
        "password",
        "-password",
        "-",
        "--id",
        "id,id",
        "amount,-amount",
        "user__password",
        "?",
        "pk",
        ",",
        "amount,",
        ",balance",
    ],
    "page": ["0", "501", "10001", "1,2", "last"],
    "page_size": ["0", "101", "10001", "all"],
    "cursor": ["PDE=", "PDE", "====", "PDk5OTk5OTk5OTk5OTk5OTk5OTk5OQ==", "Pi0x", "%3C1"],
    "start_date": MOMENTS,
    "end_date": MOMENTS,
    "min_amount": ["999999999999.99", "9999999999999", "-0", "1.005", "%D9%A5", "1,5", "0"],
    "phone": ["9999999999", "+1", "911", "%2B91", "tel:9999999999"],
    "is_active": ["TRUE", "yes", "1", "None"],
    "type": ["credit", "None", "%C4%B1", "HOLD.OPENED"],
    "after": ["9" * 18, "9" * 19, "01", "1_0", "%201", "1%0A", "null"],
}
SAME = {
    "max_amount": "min_amount", "min_balance": "min_amount", "max_balance": "min_amount", "sender_phone": "phone",
    "receiver_phone": "phone", "is_staff": "is_active", "status": "type", "direction": "type", "search": "phone",
    "format": "type", "unknown": "type", "webhook": "after", "month": "start_date", "at": "start_date",
}  # fmt: skip


@pytest.fixture
def client(boss, as_user):
    """For the superuser, who may see every list; server errors are answers here."""
    client = as_user(boss)
    client.raise_request_exception = False
    return client


@pytest.mark.parametrize("path", LISTS)
def test_no_value_of_a_parameter_breaks_a_list(asha, client, path):
    documented = client.get("/swagger.json").json()["paths"][path]["get"]["parameters"]
    for name in [*(parameter["name"] for parameter in documented), "format", "unknown"]:
        for value in [*TEXTS, *BY_NAME[SAME.get(name, name)]]:
            response = client.get(path, QUERY_STRING=f"{name}={value}")
            if response.status_code != 200:
                missing = name == "page" and response.status_code == 404
                code = "not_found" if missing else "validation_error"
                assert set(problem(response, 404 if missing else 400, code).get("errors", {})) <= {name}


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "query", ["%00", "%ff=%ff", "&&&", "=", "page", "page=1&page=x", "page[]=1", "search=x&" * 900]
)
def test_no_shape_of_a_query_string_breaks_a_list(client, path, query):
    assert client.get(path, QUERY_STRING=query).status_code in (200, 400)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/transactions/", "min_amount=NaN"),
        ("/transactions/", "start_date=yesterday"),
        ("/transactions/", "type=GIFT"),
        ("/transactions/", "direction=UP"),
        ("/transactions/", "phone=911"),
        ("/transactions/", "cursor=x"),
        ("/transactions/", "page_size=101"),
        ("/transactions/admin-list/", "ordering=password"),
        ("/transactions/admin-list/", "page=1e3"),
        ("/transactions/admin-list/", "page=-1"),
        ("/transactions/admin-list/", "sender_phone=x"),
        ("/wallet/holds/", "status=MELTED"),
        ("/wallet/holds/", "status=ACTIVE"),
        ("/wallet/holds/", "direction=UP"),
        ("/wallet/holds/", "cursor=x"),
        ("/wallet/admin/holds/", "status=MELTED"),
        ("/wallet/admin/holds/", "search=%00"),
        ("/wallet/admin/holds/", "page=-1"),
        ("/wallet/requests/", "status=OPEN"),
        ("/wallet/requests/", "direction=UP"),
        ("/wallet/requests/", "cursor=x"),
        ("/wallet/admin/requests/", "status=MELTED"),
        ("/wallet/admin/requests/", "search=%00"),
        ("/wallet/admin/requests/", "page=-1"),
        ("/wallet/admin/tiers/", "page_size=0"),
        ("/wallet/admin/wallets/", "status=MELTED"),
        ("/wallet/admin/wallets/", "min_balance=1.005"),
        ("/transactions/events/", "after=-1"),
        ("/transactions/events/", "after=x"),
        ("/transactions/events/", "after=%D9%A3"),
        ("/transactions/events/", f"after={10**18}"),
        ("/transactions/events/", "page_size=1001"),
        ("/transactions/events/", "type=hold"),
        ("/transactions/webhooks/", "page=0"),
        ("/transactions/webhooks/deliveries/", "webhook=1%0A"),
        ("/transactions/webhooks/deliveries/", f"webhook={10**18}"),
        ("/transactions/webhooks/deliveries/", "status=LOST"),
        ("/auth/admin/users/", "is_active=perhaps"),
        ("/auth/admin/users/", "ordering=password"),
        ("/auth/admin/users/", "search=%00"),
    ],
)
def test_an_unreadable_filter_is_named_and_never_ignored(client, path, query):
    body = problem(client.get(path, QUERY_STRING=query), 400, "validation_error")
    assert list(body["errors"]) == [query.split("=")[0]]


@pytest.mark.parametrize("pk", ["0", "9" * 18, "9" * 19, "-1", "1.0", "%D9%A3", "x", "1%00", "%27"])
def test_an_id_that_names_nothing_is_not_found(client, pk):
    for path in ("/transactions/{}/", "/auth/admin/users/{}/", "/wallet/holds/{}/", "/wallet/requests/{}/",
                 "/transactions/webhooks/{}/", "/transactions/webhooks/deliveries/{}/"):  # fmt: skip
        problem(client.get(path.format(pk)), 404, "not_found")
    problem(client.post(f"/wallet/admin/wallets/{pk}/credit/", {"amount": "1.00", "remarks": "x"}), 404, "not_found")
    problem(client.patch(f"/wallet/admin/wallets/{pk}/", {"tier": None, "reason": "x"}), 404, "not_found")
    problem(client.post(f"/transactions/{pk}/reverse/", {"remarks": "x"}), 404, "not_found")
    problem(client.patch(f"/transactions/webhooks/{pk}/", {"is_active": True}), 404, "not_found")
    for path in ("/transactions/{}/refund/", "/wallet/holds/{}/capture/", "/wallet/holds/{}/void/",
                 "/wallet/requests/{}/pay/", "/wallet/requests/{}/decline/", "/wallet/requests/{}/cancel/",
                 "/transactions/webhooks/{}/rotate/", "/transactions/webhooks/{}/test/",
                 "/transactions/webhooks/{}/retry/", "/transactions/webhooks/deliveries/{}/retry/"):  # fmt: skip
        problem(client.post(path.format(pk), {}), 404, "not_found")


@pytest.mark.parametrize(
    "tier", ["", "x", " Small", "small", "\0", "x" * 60_000, 0, -1, 10**30, 1.5, True, [], {}, "١"]
)
def test_an_unknown_tier_is_refused(asha, client, tier):
    Tier.objects.create(name="Small")
    answer = client.patch(f"/wallet/admin/wallets/{asha.wallet.pk}/", {"tier": tier, "reason": "x"}, format="json")
    assert list(problem(answer, 400, "validation_error")["errors"]) == ["tier"]


@pytest.mark.parametrize("path", LISTS + FILES)
def test_an_unknown_parameter_is_named_and_never_ignored(client, path):
    for wrong in ("typ", "Type", "sender_phone_number", "format", "page ", "type[]", "type__exact"):
        if (path, wrong) != ("/wallet/balance/", "format"):  # it has a single format, and ignores this
            body = problem(client.get(path, {wrong: "CREDIT"}), 400, "validation_error")
            assert list(body["errors"]) == [wrong]


@pytest.mark.parametrize("path", LISTS + FILES)
def test_a_repeated_parameter_is_refused(client, path):
    name = client.get("/swagger.json").json()["paths"][path]["get"]["parameters"][0]["name"]
    body = problem(client.get(path, QUERY_STRING=f"{name}=a&{name}=b"), 400, "validation_error")
    assert list(body["errors"]) == [name]
