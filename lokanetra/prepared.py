"""Queries of the hot path: Django's, but compiled once per process. Compiling a query takes longer than running it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Generic, Self, TypeVar

from django.db import DEFAULT_DB_ALIAS, Error, connection, connections, models
from django.db.models.base import ModelState
from django.db.models.expressions import Expression
from django.db.models.query import get_related_populators

from lokanetra import database


class Placeholder(Expression):
    """A place in a query for a value that each call passes: an integer, text or boolean, as the database takes it."""

    def __init__(self, name: str, field: models.Field | None = None) -> None:
        super().__init__(output_field=field or models.Field())
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class Stored(ModelState):
    """The state of an object that is in the database."""

    adding = False


class FastModel(models.Model):
    """A model whose rows become objects in a third of the time: without signals, and without a call for each field."""

    class Meta:
        abstract = True

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any]) -> Self:  # type: ignore[override]
        row, state = cls.__new__(cls), Stored()
        state.db = db
        row.__dict__ = dict(zip(field_names, values, strict=True), _state=state)
        return row

    @classmethod
    def build(cls, **values: Any) -> Self:
        """A new object, not yet in the database, with values for all its fields: an object or None for a relation."""
        row, columns = cls.__new__(cls), _columns(cls)
        row._state = ModelState()
        for name, value in values.items():
            if isinstance(value, models.Model):
                row._state.fields_cache[name] = value
                value = value.pk
            row.__dict__[columns.get(name, name)] = value
        return row


@cache
def _columns(model: type[models.Model]) -> dict[str, str]:
    """Where an object keeps the value of a field, if not by its name."""
    return {field.name: field.attname for field in model._meta.concrete_fields if field.is_relation}


Row = TypeVar("Row", bound=FastModel)
Result = TypeVar("Result")


class Prepared(Generic[Row]):
    """A queryset with placeholders, called with their values. Returns what evaluating it would, as a list.

    newest = Prepared(lambda: Wallet.objects.filter(user=Placeholder("user_id")).order_by("-pk"))
    newest(user_id=7)
    """

    def __init__(self, build: Callable[[], models.QuerySet[Row]]) -> None:
        self.build = build

    def __call__(self, **values: Any) -> list[Row]:
        compiled = self._compiled
        return compiled.objects(rows_of(compiled.sql, self._params(values)))

    def later(self, **values: Any) -> "Later[list[Row]]":
        """The same, sent later."""
        compiled = self._compiled
        return Later(compiled.sql, self._params(values), compiled.objects)

    def _params(self, values: Mapping[str, Any]) -> list[Any]:
        return [values[param.name] if isinstance(param, Placeholder) else param for param in self._compiled.params]

    @cached_property
    def _compiled(self) -> "Compiled":
        return Compiled(self.build().query.get_compiler(connection=connection))


class Newest(Prepared[Row]):
    """The newest rows that have a value in one of several columns, each with an index of it and the id, as one
    statement. `build` returns a queryset of the same columns for each of them, by its name.

    Of each the first rows are read from the value on, to the limit, and what others have is left out afterwards. If
    they were read for the value alone, the planner would expect as few rows as most values have, and read and sort all
    that a busy one has. Other tables are joined to what was read: else the planner would prepare for the whole table.
    """

    def __init__(self, build: Callable[[], Mapping[str, models.QuerySet[Row]]], value: Placeholder, count: int) -> None:
        self.parts, self.value, self.count = build, value, count

    @cached_property
    def _compiled(self) -> "Compiled":
        parts = [self._part(column, rows) for column, rows in self.parts().items()]
        whole = parts[0]
        whole.params = sum((part.params for part in parts), ())
        whole.sql = f"{' UNION ALL '.join(part.sql for part in parts)} ORDER BY 1 DESC LIMIT {self.count}"
        return whole

    def _part(self, column: str, rows: models.QuerySet[Row]) -> "Compiled":
        part = Compiled(rows.filter(**{column: self.value}).order_by().query.get_compiler(connection=connection))
        table = connection.ops.quote_name(rows.model._meta.db_table)
        first = f"SELECT * FROM {table} WHERE {column} >= %s ORDER BY {column}, id DESC LIMIT {self.count}"  # noqa: S608
        part.sql = part.sql.replace(table, "first").replace("FROM first", f"FROM ({first}) AS first", 1)
        part.params = (*part.params, self.value)
        return part


class Later(Generic[Result]):
    """A statement that is sent with the next one of its transaction, or with COMMIT: that saves a round trip. Its
    errors are raised there. Outside a transaction, or on SQLite, it is sent at once.

    `result` is what `then` makes of its rows; asked for too early, it sends the statement.
    """

    def __init__(self, sql: str, params: Sequence[Any], then: Callable[[list[tuple]], Result]) -> None:
        current: Any = connections[DEFAULT_DB_ALIAS]
        self.then = then
        if hasattr(current, "send_later") and current.in_atomic_block:
            current.send_later(sql, params, self._settle)
        else:
            self._settle(rows_of(sql, params))

    def _settle(self, rows: list[tuple]) -> None:
        self._result = self.then(rows)

    @property
    def result(self) -> Result:
        if not hasattr(self, "_result"):
            send_waiting()
        return self._result


def send_waiting() -> None:
    """Send now what was to be sent later."""
    current: Any = connections[DEFAULT_DB_ALIAS]
    if getattr(current, "waiting", None):
        current.send_waiting()


def insert(made: models.Model) -> None:
    """Write a new object, made by `build`, by a statement that is prepared and sent `Later`: it gets its id then. No
    signal is sent."""
    statement, fields = _insertion(type(made))
    values = [field.get_db_prep_save(getattr(made, field.attname), connection) for field in fields]

    def settle(rows: list[tuple]) -> None:
        ((made.pk,),) = rows
        made._state.adding, made._state.db = False, DEFAULT_DB_ALIAS

    Later(statement, values, settle)


@cache
def _insertion(model: type[models.Model]) -> tuple[str, list[Any]]:
    fields: list[Any] = [field for field in model._meta.concrete_fields if not field.primary_key]
    columns, places = ", ".join(field.column for field in fields), ", ".join(len(fields) * ["%s"])
    return f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({places}) RETURNING id", fields  # noqa: S608


def rows_of(sql: str, params: Sequence[Any]) -> list[tuple]:
    """All rows of a statement. Outside a transaction it must do no harm if it is done twice, as it is if the connection
    failed."""
    try:
        return _rows_of(sql, params)
    except Error as fault:
        if not database.renew_connection(fault):
            raise
        return _rows_of(sql, params)


def _rows_of(sql: str, params: Sequence[Any]) -> list[tuple]:
    current: Any = connections[DEFAULT_DB_ALIAS]
    if hasattr(current, "rows_of"):
        return current.rows_of(sql, params)
    cursor = current.cursor()
    cursor.execute(sql, params)
    return cursor.fetchall()


class Compiled:
    """A statement, and the conversion of its rows to objects, as in Django's own iteration over a queryset."""

    def __init__(self, compiler: Any) -> None:
        self.compiler = compiler
        self.sql, self.params = compiler.as_sql()
        self.converters = compiler.get_converters([column for column, _, _ in compiler.select])
        info = compiler.klass_info
        self.model, fields = info["model"], info["select_fields"]
        self.names = [compiler.select[column][0].target.attname for column in fields]
        self.names += compiler.annotation_col_map or {}  # whose columns follow
        self.own = slice(fields[0], fields[0] + len(self.names))
        self.populators: Any = get_related_populators(info, compiler.select, DEFAULT_DB_ALIAS)  # type: ignore[call-arg]

    def objects(self, rows: Iterable[Any]) -> list[Any]:
        converted = self.compiler.apply_converters(rows, self.converters) if self.converters else rows
        return [self._object(row) for row in converted]

    def _object(self, row: Any) -> Any:
        result = self.model.from_db(DEFAULT_DB_ALIAS, self.names, row[self.own])
        for populator in self.populators:
            populator.populate(row, result)
        return result
