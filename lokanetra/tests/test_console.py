"""No page of the console breaks, whatever is in its address or its form. The pages come from the URLconf."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import cycle, product

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from transactions import webhooks
from users import audit, keys, otp, tokens
from users.models import UserProfile
from wallet import holds, requests
from wallet.models import LedgerCheck, Tier

# Parameters that Django and Unfold read.
FRAMEWORK = """
    _to_field _popup _source_model _changelist_filters _facets _saveasnew _save _continue _addanother p o all e q next
    action index select_across _selected_action page s extended app_label model_name field_name term timestamp__year
""".split()  # noqa: SIM905
# As in an address; `{}` is replaced by the parameter's name.
JUNK = ["", "x", "-1", "9" * 30, "%00", "%", "%D9%A3", "%ED%A0%80", "1&{}=x", "x" * 10_000]
IDS = ["0", "-1", "x", "None", "9" * 20, "9" * 5000, "%00", "%25", "%D9%A3", "_", "_00", "_5F", "_ZZ", "1_2F1", "1/1"]

MODELS = {f"/admin/{model._meta.app_label}/{model._meta.model_name}/": model for model in site._registry}


def routes(patterns, prefix: str = "/admin/") -> Iterator[str]:
    for found in patterns:
        route = prefix + str(found.pattern)
        yield from routes(found.url_patterns, route) if hasattr(found, "url_patterns") else [route]


(ADMIN,) = [found for found in get_resolver().url_patterns if getattr(found, "app_name", "") == "admin"]
# A pattern's named group becomes a path part of that name.
ROUTES = [
    re.sub(r"\^?\(\?P(<\w+>)[^)]*\)(/?)\$?", r"\1\2", route) for route in dict.fromkeys(routes(ADMIN.url_patterns))
]


@pytest.fixture
def rows(asha, boss):
    """The newest row of each model in the console."""
    otp.send(phone_number=asha.phone_number, address="127.0.0.1")
    tokens.issue(asha)
    audit.record(user_id=boss.pk, on=asha, what="account")
    Tier.objects.create(name="Gold", max_amount=5)
    keys.create(keys.service_account("settlement"), name="nightly")
    webhook = webhooks.create(by=boss.pk, url="https://example.com/", types=["hold.opened"])
    webhooks.test(by=boss.pk, webhook_id=webhook.pk)
    holds.open_(user_id=asha.pk, to=boss.phone_number, amount=Decimal(5))
    requests.ask(user_id=asha.pk, to=boss.phone_number, amount=Decimal(5))
    LedgerCheck.objects.create(ended_at=timezone.now(), wallets=2, complaints=0)
    return {model: model._default_manager.latest("pk") for model in (*MODELS.values(), ContentType)}


@pytest.fixture
def client(boss):
    client = Client(raise_request_exception=False)
    client.force_login(boss)
    return client


@pytest.fixture
def path_of(rows):
    """The address of a page, with the newest row where it needs one."""

    def path(route: str) -> str:
        model = next((model for prefix, model in MODELS.items() if route.startswith(prefix)), UserProfile)
        values = {"path:object_id": rows[model].pk, "id": rows[model].pk, "app_label": "wallet", "url": "nowhere"}
        values["path:content_type_id"] = ContentType.objects.get_for_model(model).pk
        return re.sub(r"<([\w:]+)>", lambda found: str(values[found[1]]), route)

    return path


def is_intact(answer) -> bool:
    return answer.status_code < 500 and b"Traceback" not in getattr(answer, "content", b"")


def send(client, method: str, path: str, query: str):
    if method == "get":
        return client.get(f"{path}?{query}")
    return client.post(path, query, content_type="application/x-www-form-urlencoded")


@pytest.mark.once
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("route", ROUTES)
def test_no_junk_breaks_a_page(client, path_of, route, method):
    path = path_of(route)
    for junk in JUNK:
        query = "&".join(f"{name}={junk.format(name)}" for name in FRAMEWORK)
        assert is_intact(send(client, method, path, query)), f"{path}: {junk[:99]}"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", ["", "add/", "<path:object_id>/change/", "<path:object_id>/delete/"])
def test_no_parameter_breaks_a_page_of_a_model(client, path_of, page, method):
    """All parameters and all junk, distributed over the models."""
    paths = cycle([path_of(model + page) for model in MODELS])
    for path, (name, junk) in zip(paths, product(FRAMEWORK, JUNK), strict=False):
        query = f"{name}={junk.format(name)}"
        assert is_intact(send(client, method, path, query)), f"{path}: {query[:99]}"


@pytest.mark.parametrize("model", MODELS)
def test_no_filter_breaks_a_list(client, rows, model):
    filters = client.get(model).context["cl"].filter_specs
    own = {name for found in filters for name in found.expected_parameters()}
    like_own = {f"{name.split('__')[0]}__{lookup}" for name in own for lookup in ("exact", "in", "isnull", "gte")}
    for name, junk in product(sorted(own | like_own), JUNK):
        query = f"{name}={junk.format(name)}"
        assert is_intact(client.get(f"{model}?{query}")), query[:99]


@pytest.mark.parametrize("route", [route for route in ROUTES if "<" in route])
def test_no_id_breaks_a_page(client, rows, route):
    for junk in IDS:
        path = re.sub(r"<[\w:]+>", junk, route)
        for answer in (client.get(path), client.post(path, {"post": "yes", "confirmed": ""})):
            assert is_intact(answer), path[:99]


@pytest.mark.parametrize("page", ["/admin/", *MODELS, *(f"{model}<path:object_id>/change/" for model in MODELS)])
def test_no_page_shows_a_thousand_rupees_as_a_bare_number(client, path_of, page):
    assert not re.search(r"(?<!₹\s)(?<![\d,.])1,?000\.00", client.get(path_of(page)).content.decode())


def test_times_are_written_alike_whoever_writes_them(client, asha):
    UserProfile.objects.update(date_joined=datetime(2026, 1, 31, 9, 30, tzinfo=UTC))
    assert "31 Jan 2026 15:00" in client.get("/admin/users/userprofile/").content.decode()


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/admin/users/userprofile/?password__startswith=a", 400, "This cannot be read"),
        ("/admin/users/apikey/", 403, "Not allowed"),
        ("/admin/nowhere/", 404, "Nothing is here"),
        ("/admin/", 500, "Something went wrong"),
    ],
)
def test_an_error_has_a_page_of_the_product_s_own(client, staff, monkeypatch, path, status, told):
    monkeypatch.setattr("transactions.front.page", lambda *_: 1 / 0)
    client.force_login(staff)
    staff.user_permissions.set(Permission.objects.all())
    answer = client.get(path)
    assert answer.status_code == status
    assert f"<h1>{told}</h1>" in answer.content.decode()
