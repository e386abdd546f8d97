"""Each module imports only from the layers below it, money is written in one place, and the top level is fixed.

Each rule is tested on small bad examples first, then on the product.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from django.conf import settings

pytestmark = pytest.mark.once

ROOT = Path(settings.BASE_DIR)
APPS = ("lokanetra", "users", "wallet", "transactions")

# A module imports only from the lines above its own. `*` matches any name.
LAYERS = """
    lokanetra.texts lokanetra.days lokanetra.encrypted lokanetra.deadlines lokanetra.formats.en.formats
    lokanetra.parsers lokanetra.shapes lokanetra.postgresql.statements
    lokanetra.env lokanetra.logs lokanetra.pagination lokanetra.filters lokanetra.addresses
    lokanetra.database lokanetra.postgresql.base lokanetra.staticfiles lokanetra.plurals lokanetra.online
    lokanetra.prepared lokanetra.errors lokanetra.replica lokanetra.checks lokanetra.throttles *.apps
    lokanetra.slots lokanetra.outside lokanetra.work lokanetra.metrics lokanetra.sentry
    lokanetra.settings lokanetra.endpoints lokanetra.middleware lokanetra.admin lokanetra.actions
    users.phones
    users.exceptions
    users.models
    users.limits users.sms users.tokens users.audit users.groups
    users.accounts users.keys
    users.otp
    wallet.money
    wallet.exceptions wallet.clock
    wallet.faults
    wallet.models
    transactions.models transactions.triggers
    wallet.limits wallet.books wallet.proofs
    users.permissions users.serializers users.filters users.forms
    wallet.permissions wallet.serializers wallet.filters wallet.forms
    transactions.permissions transactions.serializers transactions.filters
    transactions.signatures transactions.events
    transactions.webhooks transactions.deliveries
    wallet.rules
    wallet.ledger
    wallet.payments wallet.refunds wallet.holds wallet.requests wallet.status
    transactions.exports transactions.volumes transactions.statements transactions.figures
    transactions.statement_pdf
    transactions.statement_files
    wallet.console
    *.views.* *.views lokanetra.health *.admin *.admin.* *.management.commands.*
    wallet.admin.people transactions.front
    *.urls lokanetra.schema
    lokanetra.urls
    lokanetra.wsgi lokanetra.rsgi
    lokanetra.supervisor
    transactions.management.commands.work
"""
ALLOWED_AT_THE_TOP = (
    "lokanetra users wallet transactions scripts requirements.txt requirements-prod.txt manage.py pytest.ini "
    "conftest.py README.md LICENSE .*"
)

WRITES = {"create", "save", "update", "delete", "get_or_create", "update_or_create"}
WRITES |= {f"bulk_{verb}" for verb in ("create", "update")}
WRITES |= {f"a{verb}" for verb in WRITES}
COLUMNS = {"balance", "status", "amount", "held", "captured", "tier"}
MONEY = {"Wallet", "Transaction", "Hold", "PaymentRequest", "Key"}
# The usual names of such rows, where the module itself does not show what they are.
USUAL_NAMES = {"wallet", "wallets", "payer", "payee", "receiver", "sender", "transaction", "transactions", "reversals"}
USUAL_NAMES |= {"hold", "holds", "captures", "payment_request"}
WRITING_SQL = re.compile(
    r"(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE)\W+"
    r"(wallet_wallet|transactions_transaction|wallet_hold|wallet_paymentrequest|wallet_key)\b",
    re.IGNORECASE,
)
IMPORTERS = {"import_module", "import_string", "__import__", "get_model"}


def modules() -> dict[str, ast.Module]:
    """The product's modules by name; neither its tests nor its migrations, which are history."""
    found = {}
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if not {"tests", "migrations", "__init__"} & set(parts):
                found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


# --- Imports -----------------------------------------------------------------------------------------


def imports(tree: ast.AST, *, lazy: bool = True) -> Iterator[str]:
    """The dotted names that are imported; without `lazy`, not those inside of functions."""
    for node in walk(tree, into_functions=lazy):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and last_name(node.func) in IMPORTERS:
            yield from (text for argument in node.args if (text := getattr(argument, "value", None)))


def walk(tree: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    yield tree
    for child in ast.iter_child_nodes(tree):
        if into_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from walk(child, into_functions=into_functions)


def last_name(node: ast.AST) -> str:
    return getattr(node, "attr", None) or getattr(node, "id", "")


def layer_of(name: str) -> int:
    layers = [line.split() for line in LAYERS.strip().splitlines()]
    exact = [n for n, line in enumerate(layers) if name in line]
    found = exact or [n for n, line in enumerate(layers) if any(fnmatch(name, pattern) for pattern in line)]
    assert found, f"{name} has no layer: give it one in LAYERS"
    return found[0]


def wrong_imports(trees: dict[str, ast.Module]) -> list[str]:
    """Imports from the same layer or above. Without them there are no cycles either."""
    wrong = []
    for name, tree in trees.items():
        lazy = not name.endswith(".apps")  # `ready` and the receivers import when everything is loaded
        for target in {known for found in imports(tree, lazy=lazy) for known in trees if is_in(found, known)}:
            if target != name and layer_of(target) >= layer_of(name):
                wrong.append(f"{name} -> {target}")
    return sorted(wrong)


def is_in(dotted: str, module: str) -> bool:
    return f"{dotted}.".startswith(f"{module}.")


def parsed(**sources: str) -> dict[str, ast.Module]:
    return {name.replace("__", "."): ast.parse(source) for name, source in sources.items()}


@pytest.mark.parametrize(
    "source",
    [
        "from wallet.models import Wallet",
        "from wallet import models",
        "import wallet.models",
        "import wallet.models as books",
        "def pay():\n    from wallet.models import Wallet",
        "if TYPE_CHECKING:\n    from wallet.models import Wallet",
        "try:\n    import wallet.models\nexcept ImportError:\n    pass",
        "books = import_module('wallet.models')",
        "Wallet = django.utils.module_loading.import_string('wallet.models.Wallet')",
    ],
)
def test_an_upward_import_is_found(source):
    assert wrong_imports(parsed(users__tokens=source, wallet__models="")) == ["users.tokens -> wallet.models"]
    assert wrong_imports(parsed(users__tokens="", wallet__models=source.replace("wallet.models", "users.tokens"))) == []


def test_a_circle_and_a_neighbour_are_found():
    circle = parsed(users__otp="from users import accounts", users__accounts="def f():\n    from users import otp")
    assert wrong_imports(circle) == ["users.accounts -> users.otp"]
    assert wrong_imports(parsed(users__sms="import users.tokens", users__tokens="")) == ["users.sms -> users.tokens"]


def test_imports_in_ready_are_allowed():
    lazy = "class Config:\n    def ready(self):\n        from wallet.models import Wallet"
    assert wrong_imports(parsed(wallet__apps=lazy, wallet__models="")) == []
    assert wrong_imports(parsed(wallet__apps="import wallet.models", wallet__models="")) == [
        "wallet.apps -> wallet.models"
    ]


def test_a_module_without_a_layer_is_found():
    with pytest.raises(AssertionError, match=r"users\.helpers has no layer"):
        wrong_imports(parsed(users__helpers="import users.models", users__models=""))


def test_every_import_comes_from_below():
    assert wrong_imports(modules()) == []
    assert all(layer_of(name) >= 0 for name in modules())


def test_accounts_know_nothing_of_money():
    for path in (ROOT / "users").rglob("*.py"):
        if "tests" not in path.parts:
            found = set(imports(ast.parse(path.read_text(encoding="utf-8"))))
            assert not [name for name in found if name.split(".")[0] in ("wallet", "transactions")], path


def test_the_documentation_is_made_in_one_module():
    users = {name for name, tree in modules().items() if any(is_in(found, "drf_yasg") for found in imports(tree))}
    assert users == {"lokanetra.schema"}


# --- Writes ------------------------------------------------------------------------------------------


def writes(tree: ast.AST) -> list[str]:
    """Calls and statements that write wallets or the ledger, judged by their names."""
    rows = USUAL_NAMES | MONEY | names_of_rows(tree)
    found = [ast.unparse(call.func) for call in calls(tree) if is_write(call, rows)]
    found += [ast.unparse(target) for target in targets(tree) if is_column(target, rows)]
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return found + [found_in[0] for text in texts if (found_in := WRITING_SQL.search(text))]


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def is_write(call: ast.Call, rows: set[str]) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id in MONEY
    if not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr in MONEY or (call.func.attr in WRITES and mentions(call.func.value, rows))


def is_column(target: ast.AST, rows: set[str]) -> bool:
    return isinstance(target, ast.Attribute) and target.attr in COLUMNS and mentions(target.value, rows)


def mentions(node: ast.AST, names: set[str]) -> bool:
    return any(last_name(part) in names for part in ast.walk(node))


def targets(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from (part for target in node.targets for part in getattr(target, "elts", [target]))
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            yield node.target


def names_of_rows(tree: ast.AST) -> set[str]:
    """The names of wallets and transactions in a module: by assignment, loop, annotation, or class."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and mentions(node.value, MONEY):
            found |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, (ast.For, ast.comprehension)) and mentions(node.iter, MONEY):
            found |= {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.arg) and node.annotation and mentions(node.annotation, MONEY):
            found.add(node.arg)
        elif isinstance(node, ast.ClassDef) and any(name in node.name for name in MONEY):
            found.add("self")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "Wallet.objects.create(user=user)",
        "Wallet(user=user).save()",
        "models.Transaction(amount=1)",
        "Transaction.objects.filter(pk=1).update(amount=2)",
        "Wallet.objects.bulk_update(rows, ['balance'])",
        "Transaction.objects.bulk_create(rows)",
        "Wallet.objects.get_or_create(user=user)",
        "user.wallet.save()",
        "request.user.wallet.balance += 1",
        "row = Wallet.objects.get()\nrow.save()",
        "row = Wallet.objects.get()\nrow.balance = 0",
        "payment_request.save()",
        "row = PaymentRequest.objects.get()\nrow.status = 'PAID'",
        "row = Hold.objects.get()\nrow.remarks, row.captured = '', 0",
        "for row in Transaction.objects.all():\n    row.delete()",
        "def pay(row: Wallet):\n    row.save(update_fields=['balance'])",
        "class WalletQuerySet:\n    def empty(self):\n        self.update(balance=0)",
        "cursor.execute('UPDATE wallet_wallet SET balance = 0')",
        "cursor.execute('delete from \"transactions_transaction\"')",
    ],
)
def test_a_write_is_found(source):
    assert writes(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "Wallet.objects.filter(user=user).first()",
        "user.save(update_fields=['email'])",
        "digest.update(b'x')",
        "payments.credit(wallet_id=wallet.pk)",
        "balance = wallet.balance",
        "cursor.execute('SELECT balance FROM wallet_wallet FOR UPDATE')",
    ],
)
def test_what_writes_no_money_is_not_taken_for_a_write(source):
    assert not writes(ast.parse(source))


def test_money_is_written_by_the_ledger_and_empty_wallets_by_one_receiver():
    found = {name: written for name, tree in modules().items() if (written := writes(tree))}
    statements = {"UPDATE wallet_wallet", "INSERT INTO transactions_transaction", "INSERT INTO wallet_key"}
    assert statements | {"UPDATE wallet_hold"} == set(found.pop("wallet.books"))
    assert {"payer.balance", "payer.held", "hold.captured", "hold.status", "payment_request.status"} <= set(
        found.pop("wallet.ledger")
    )
    demo = set(found.pop("wallet.management.commands.demo_data"))  # it writes only what it created itself
    assert demo <= {"Wallet", "Transaction", "Hold", *(f"{name}.objects.bulk_create" for name in MONEY)} | {
        "Wallet.objects.bulk_update",
        "wallet.balance",
        "self.wallets[payer].held",
        "row.amount",
    }
    assert found == {"wallet.apps": ["Wallet.objects.create"]}


# --- Arithmetic --------------------------------------------------------------------------------------


def sums_in_sql(tree: ast.AST) -> list[str]:
    """Arithmetic on columns of money, which are in paise."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.BinOp, ast.UnaryOp)) and any(is_column_of_money(part) for part in operands(node))
    ]


def operands(node: ast.AST) -> list[ast.AST]:
    return [getattr(node, side) for side in ("left", "right", "operand") if hasattr(node, side)]


def is_column_of_money(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and last_name(node.func) == "F" and node.args):
        return False
    return bool(re.search(r"(balance|amount)$", str(getattr(node.args[0], "value", ""))))


@pytest.mark.parametrize(
    "source",
    [
        'rows.update(balance=F("balance") + 1)',
        'rows.update(balance=1 - models.F("balance"))',
        'rows.annotate(x=-F("amount"))',
        'rows.annotate(x=F("sender__balance") * 2)',
        'Q(receiver_balance__gte=F("amount") - 1)',
    ],
)
def test_arithmetic_on_a_column_of_money_is_found(source):
    assert sums_in_sql(ast.parse(source))
    assert not sums_in_sql(ast.parse('Q(balance__gte=F("amount")) | Q(count=F("count") + 1)'))


def test_sums_are_made_in_python():
    assert {name: found for name, tree in modules().items() if (found := sums_in_sql(tree))} == {}


# --- Files -------------------------------------------------------------------------------------------


def unknown_files(files: list[str]) -> list[str]:
    """What does not belong at the top level."""
    top = {file.split("/")[0] for file in files}
    return sorted(name for name in top if not any(fnmatch(name, allowed) for allowed in ALLOWED_AT_THE_TOP.split()))


def test_an_unknown_file_at_the_top_is_found():
    assert unknown_files(["utils.py", "core/models.py", "users/models.py", ".ci/run", "README.md"]) == [
        "core",
        "utils.py",
    ]


def test_the_top_level_has_only_known_files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listed.stdout.split()
    assert "manage.py" in files
    assert unknown_files(files) == []
