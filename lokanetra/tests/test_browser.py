"""The console and Swagger in a real browser: what people click, and how it looks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.template.loader import render_to_string

from lokanetra.tests.live import Development, development_server, program

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.slow
PASSWORD = "correct horse"  # noqa: S105

# Run in the server's own environment: a fortnight of payments between two people.
STORY = """
from datetime import timedelta
from decimal import Decimal
from unittest.mock import patch
from django.utils import timezone
from transactions import volumes, webhooks
from users import accounts
from users.models import UserProfile
from wallet import holds, payments, requests
asha, ravi = (accounts.create(phone_number=number) for number in ("+919999999999", "+919888888888"))
real = timezone.now
for days in range(14, -1, -1):
    with patch.object(timezone, "now", lambda: real() - timedelta(days=days)):
        payments.credit(user_id=asha.pk, amount=Decimal("1000.00"), remarks="Salary")
        payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("150.50"), remarks="Lunch")
        payments.debit(user_id=ravi.pk, amount=Decimal("20.00"), remarks="Bus")
for day in volumes.unsummed_days():
    volumes.close(day)
holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("75.00"), remarks="Room")
requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("60.00"), remarks="Tickets")
boss = UserProfile.objects.get(username="boss")
url = "https://hooks.example.com/payments/of/lokanetra/incoming"
webhook = webhooks.create(by=boss.pk, url=url, types=["hold.captured"])
webhooks.test(by=boss.pk, webhook_id=webhook.pk)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Development]:
    program("chromium", "chromium-browser", "google-chrome")
    with development_server(tmp_path_factory.mktemp("browser")) as server:
        server.create_superuser("boss", PASSWORD, "9000000001")
        server.manage("shell", "--verbosity", "0", "--command", STORY)
        server.manage("check_ledger")
        yield server


@pytest.fixture(scope="module")
def chromium(server: Development) -> Iterator[playwright.Browser]:
    path = program("chromium", "chromium-browser", "google-chrome")
    with playwright.sync_playwright() as browsers:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = browsers.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(server: Development, chromium: playwright.Browser) -> Iterator[playwright.Page]:
    """A page of the console, logged in; requests to another host are errors."""
    context = chromium.new_context(base_url=f"http://{server.address}", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if server.address not in request.url else None)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    log_in(page)
    yield page
    context.close()
    assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []
    assert broken == []


def log_in(page: playwright.Page) -> None:
    page.goto("/admin/")
    page.fill("input[name=username]", "boss")
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url("**/admin/")


def open_wallet(page: playwright.Page, phone: str) -> None:
    page.goto("/admin/wallet/wallet/")
    page.fill("input[name=q]", phone)
    page.press("input[name=q]", "Enter")
    page.wait_for_url("**q=*")
    page.locator("#result_list tbody th a").click()
    page.wait_for_url("**/change/**")


def do(page: playwright.Page, action: str, **fields: str) -> None:
    page.get_by_role("link", name=action, exact=False).first.click()
    for name, value in fields.items():
        page.fill(f"[name={name}]", value)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Yes, do it").click()
    page.wait_for_url("**/change/")


def test_the_front_page_draws_its_charts(page):
    page.goto("/admin/")
    assert page.locator("canvas").count() == 2
    drawn = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    for chart in page.locator("canvas").all():
        assert chart.evaluate(drawn) > 3
    assert "The books agree: 3 wallets" in page.inner_text("main, body")


def test_a_wallet_is_found_by_phone_frozen_and_unfrozen(page):
    open_wallet(page, "99999 99999")
    do(page, "Freeze", reason="Stolen phone")
    assert "The wallet is frozen." in page.inner_text("body")
    page.goto("/admin/wallet/wallet/?status__exact=FROZEN")
    assert page.locator("#result_list tbody tr").count() == 1
    open_wallet(page, "9999999999")
    do(page, "Unfreeze", reason="Found again")
    page.goto("/admin/admin/logentry/")
    assert "Stolen phone" in page.inner_text("#result_list")


def test_an_adjustment_is_reviewed_confirmed_and_made_once(page):
    open_wallet(page, "9888888888")
    page.get_by_role("link", name="Credit").first.click()
    page.fill("[name=amount]", "12.34")
    page.fill("[name=reason]", "Refund")
    page.get_by_role("button", name="Continue").click()
    assert "12.34" in page.inner_text("form dl")
    page.get_by_role("button", name="Change").click()
    assert page.input_value("[name=amount]") == "12.34"
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Yes, do it").dblclick()
    page.wait_for_url("**/change/")
    assert page.get_by_text("+₹ 12.34").count() == 1


def test_an_action_on_a_persons_page_returns_to_it(page):
    page.goto("/admin/wallet/wallet/")
    page.get_by_role("link", name="user_9888888888").click()
    do(page, "Credit", amount="123456.78", reason="Prize")
    assert "/admin/users/userprofile/" in page.url
    assert page.get_by_text("+₹ 1,23,456.78").count() == 1
    page.get_by_role("link", name="Change phone").click()
    assert page.locator("#id_phone_number").is_visible()


def test_a_payment_is_reversed(page):
    open_wallet(page, "9888888888")
    page.get_by_role("link", name="All of this wallet's transactions").click()
    page.locator("#result_list tbody tr", has_text="Lunch").first.locator("th a").click()
    do(page, "Reverse", reason="Wrong number")
    assert "is given back by transaction" in page.inner_text("body")


def test_the_list_is_downloaded_as_a_file(page):
    page.goto("/admin/transactions/transaction/?transaction_type__exact=DEBIT")
    with page.expect_download() as file:
        page.get_by_role("link", name="Export CSV").first.click()
    lines = Path(file.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("id,sender,receiver")
    assert len(lines) == 16
    assert all(",DEBIT," in line for line in lines[1:])


def test_dark_mode_follows_the_system_until_it_is_chosen(server, chromium):
    context = chromium.new_context(base_url=f"http://{server.address}", color_scheme="dark")
    page = context.new_page()
    log_in(page)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_text("boss", exact=True).first.click()
    page.get_by_text("Light", exact=True).click()
    page.wait_for_function(f"{background} !== '{dark}'")
    page.reload()
    assert page.evaluate(background) != dark
    context.close()


SCROLLS = "list => list.offsetWidth > list.closest('form').clientWidth"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    for path in (
        "/admin/",
        "/admin/wallet/wallet/",
        "/admin/wallet/wallet/2/change/",
        "/admin/wallet/wallet/2/credit/",
        "/admin/transactions/transaction/",
        "/admin/users/userprofile/",
        "/admin/users/userprofile/2/change/",
        "/admin/users/apikey/add/",
        "/admin/transactions/delivery/",
        "/admin/transactions/delivery/1/change/",
        "/admin/admin/logentry/",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert not any(list_.evaluate(SCROLLS) for list_ in page.locator("#result_list").all()), path


PAGES = """
    / users/userprofile/ users/userprofile/2/change/ users/userprofile/add/ users/apikey/add/
    wallet/wallet/ wallet/wallet/2/change/ wallet/wallet/2/credit/ transactions/transaction/
    transactions/transaction/2/change/ wallet/hold/ wallet/hold/1/change/ wallet/paymentrequest/
    wallet/paymentrequest/1/change/ transactions/webhook/ transactions/webhook/1/change/ transactions/webhook/add/
    transactions/delivery/ transactions/delivery/1/change/ admin/logentry/
""".split()  # noqa: SIM905
REPORTED = "document.addEventListener('securitypolicyviolation', event => console.error(event.violatedDirective))"


def barriers(page: playwright.Page) -> list[str]:
    """The accessibility errors of a page, with their elements."""
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']}: {node['html']}" for rule in grave for node in rule["nodes"]]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_logs_no_errors(server, chromium, scheme):
    context = chromium.new_context(base_url=f"http://{server.address}", color_scheme=scheme)
    context.add_init_script(REPORTED)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/admin/login/")
    found = {"login": barriers(page)}
    log_in(page)
    for path in PAGES:
        assert page.goto(f"/admin/{path.lstrip('/')}").status == 200, path
        found[path] = barriers(page)
    context.close()
    assert {path: those for path, those in found.items() if those} == {}
    assert complaints == []


def test_menus_open_from_the_keyboard(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/")
    page.get_by_role("button", name="Menu").press("Enter")
    page.get_by_role("link", name="Wallets", exact=False).first.wait_for(state="visible")
    page.get_by_role("button", name="Close the menu").press(" ")
    page.get_by_role("navigation").first.wait_for(state="hidden")


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_an_error_has_a_page_that_can_be_read_and_leads_on(page, status):
    """A server for development shows its own page instead, so that this one is put in its place."""
    answer = {"status": status, "content_type": "text/html", "body": render_to_string(f"{status}.html")}
    page.route("**/admin/nowhere/", lambda route: route.fulfill(**answer))
    page.goto("/admin/nowhere/")
    assert page.get_by_role("heading").is_visible()
    assert barriers(page) == []
    page.get_by_role("link", name="To the front page").click()
    page.wait_for_url("**/admin/")


def test_swagger_authorizes_and_tries_out(server, page):
    post = """(path, body) => fetch(path, {method: 'POST', body: JSON.stringify(body),
        headers: {'Content-Type': 'application/json'}}).then(answer => answer.json())"""
    page.goto("/swagger/")
    call = f"([path, body]) => ({post})(path, body)"
    code = page.evaluate(call, ["/auth/send-otp/", {"phone_number": "9999999999"}])["otp"]
    login = page.evaluate(call, ["/auth/verify-otp/", {"phone_number": "9999999999", "otp": code}])
    page.click("button.authorize")
    page.fill(".auth-container input", f"Bearer {login['access']}")
    page.click(".auth-btn-wrapper button.authorize")
    page.click(".btn-done")
    balance = page.locator(".opblock", has=page.locator("[data-path='/wallet/balance/']"))
    balance.locator(".opblock-summary").click()
    balance.get_by_role("button", name="Try it out").click()
    balance.get_by_role("button", name="Execute").click()
    answer = balance.locator(".live-responses-table .response").first
    assert answer.locator(".response-col_status").inner_text().startswith("200")
    assert "user_9999999999" in answer.inner_text()
