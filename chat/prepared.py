"""Queries that are written once. Django takes ten times as long to write a small one as the database to answer it."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

from django.db import connection
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.query import ModelIterable


class Given(Expression):
    """Stands in a query for the value of that number, or for one of its list."""

    def __init__(self, field: Field, number: int, position: int | None = None):
        super().__init__(output_field=field)
        self.number, self.position = number, position

    def as_sql(self, compiler, connection):
        return "%s", [self]

    def bound(self, values: tuple) -> object:
        value = values[self.number] if self.position is None else values[self.number][self.position]
        return self.output_field.get_db_prep_value(value, connection)


class Prepared[M: Model]:
    """`Prepared(build, *fields)`: `build` makes a queryset of as many values as there are fields.

    Called with the values, it gives the rows as a list. A list among the values is for `__in`; each length is a query
    of its own. What Django has written is kept by each thread, since it belongs to the thread's connection.
    """

    def __init__(self, build: Callable[..., QuerySet[M]], *fields: Field):
        self._build, self._fields = build, fields
        self._kept = threading.local()

    def __call__(self, *values) -> list[M]:
        kept: dict[tuple, _Written[M]] = self._kept.__dict__.setdefault("written", {})
        lengths = tuple(len(value) if isinstance(value, list) else None for value in values)
        if lengths not in kept:
            kept[lengths] = _Written(self._build(*map(_givens, count(), self._fields, lengths)))
        return kept[lengths].rows(values)


class _Written[M: Model]:
    def __init__(self, queryset: QuerySet[M]):
        compiler: Any = queryset.query.get_compiler(connection=connection)
        self._sql, self._parameters = compiler.as_sql()
        # From here on Django goes on as always, with a compiler that has done its work already.
        compiler.as_sql = self._as_sql
        queryset.query.get_compiler = lambda using: compiler  # type: ignore[method-assign, assignment, misc]
        self._queryset, self._values = queryset, ()

    def rows(self, values: tuple) -> list[M]:
        self._values = values
        return list(ModelIterable(self._queryset))

    def _as_sql(self) -> tuple[str, tuple]:
        bound = (one.bound(self._values) if isinstance(one, Given) else one for one in self._parameters)
        return self._sql, tuple(bound)


def _givens(number: int, field: Field, length: int | None) -> Given | list[Given]:
    return Given(field, number) if length is None else [Given(field, number, position) for position in range(length)]
