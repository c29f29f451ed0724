"""A search engine for argilla-server 2.8 that answers from Argilla's own SQLite database; importing it registers it.

There is no index beside the database but the triggers' (`text_index.py`), so nothing can be stale and every hook that
keeps an index up to date does nothing. What Elasticsearch answers for argilla-server is the reference.
"""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import MetadataPropertyType, ResponseStatusFilter, SimilarityOrder, SortOrder
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Question, Record, Response, Suggestion, Vector
from argilla_server.search_engine.base import (
    AndFilter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataFilterScope,
    RangeFilter,
    RecordFilterScope,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    SuggestionFilterScope,
    TermsFilter,
    TermsMetrics,
    TextQuery,
)
from sqlalchemy import String, Text, and_, case, cast, exists, func, or_, select, true, type_coerce
from text_index import NUMBERS, field_column, hits, match_expression

_PRIME = 2**31 - 1
"""Modulus of the shuffle. Five has no divisor in common with it less one, so x**5 maps no two numbers to one."""

_STREAMED = 1000
"""Vectors in memory at a time."""


@SearchEngine.register(engine_name="database")
class DatabaseSearchEngine(SearchEngine):  # type: ignore[misc]  # argilla-server lives in another environment
    @classmethod
    async def new_instance(cls) -> "DatabaseSearchEngine":
        return cls()

    async def ping(self) -> bool:
        async with AsyncSessionLocal() as db:
            return bool(await db.scalar(select(1)))

    async def info(self) -> dict[str, Any]:
        return {"name": "database", "version": {"number": "1", "distribution": "database"}}

    async def _nothing(self, *_: object, **__: object) -> None:
        """What an engine with an index of its own would have to do; the database has been written already."""

    close = create_index = delete_index = configure_metadata_property = configure_index_vectors = _nothing
    index_records = partial_record_update = delete_records = _nothing
    update_record_response = delete_record_response = update_record_suggestion = delete_record_suggestion = _nothing

    async def get_dataset_progress(self, dataset: Any) -> dict[str, int]:
        """The records of a published dataset: all, and by status."""
        if dataset.is_draft:
            return {}
        status = type_coerce(Record.status, String)
        return await _counts(select(status, func.count()).where(Record.dataset_id == dataset.id).group_by(status))

    async def get_dataset_user_progress(self, dataset: Any, user: Any) -> dict[str, int]:
        """The responses of one user in a published dataset: all, and by status."""
        if dataset.is_draft:
            return {}
        status = type_coerce(Response.status, String)
        mine = select(status, func.count()).join(Record, Record.id == Response.record_id).group_by(status)
        return await _counts(mine.where(Record.dataset_id == dataset.id, Response.user_id == user.id))

    async def compute_metrics_for(self, metadata_property: Any) -> Any:
        """How often each term of a metadata property occurs, or the range of its numbers."""
        leaf = _leaf(Record.metadata_, metadata_property.name)
        base = select().select_from(Record).join(leaf, true())
        base = base.where(Record.dataset_id == metadata_property.dataset_id, leaf.c.value.is_not(None))
        async with AsyncSessionLocal() as db:
            if metadata_property.type == MetadataPropertyType.terms:
                term = _term(leaf)
                counted = base.add_columns(term, func.count()).group_by(term).order_by(func.count().desc(), term)
                rows = (await db.execute(counted)).all()
                values = [TermsMetrics.TermCount(term=term, count=count) for term, count in rows]
                return TermsMetrics(total=sum(count for _, count in rows), values=values)
            low, high = (await db.execute(base.add_columns(func.min(leaf.c.value), func.max(leaf.c.value)))).one()
        whole = metadata_property.type == MetadataPropertyType.integer
        return (IntegerMetadataMetrics if whole else FloatMetadataMetrics)(min=low, max=high)

    async def search(
        self,
        dataset: Any,
        query: TextQuery | str | None = None,
        filter: Any = None,
        sort: list[Any] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | None = None,
    ) -> SearchResponses:
        """A page of the records that a query finds and a filter keeps.

        In the order of `sort`, nulls last; else best hit first for a text query, else in an order of the user's own,
        else as they were added. Later keys settle ties, so that pages neither repeat nor skip a record.
        """
        found = _found(dataset, query)
        if found is _NOTHING:
            return SearchResponses(items=[], total=0)
        kept = _kept(select(), dataset, found, filter)
        score = found.c.score if found is not None else 1.0
        page = kept.add_columns(Record.id, score)
        if sort:
            page = page.order_by(*[_order(order) for order in sort])
        if found is not None:
            page = page.order_by(found.c.score.desc())
        elif user_id and not sort:
            page = page.order_by(_shuffled(user_id))
        page = page.order_by(NUMBERS.c.number).offset(offset).limit(limit)
        async with AsyncSessionLocal() as db:
            total = await db.scalar(kept.add_columns(func.count()))
            rows = (await db.execute(page)).all()
        return SearchResponses(items=[SearchResponseItem(record_id=id, score=score) for id, score in rows], total=total)

    async def similarity_search(
        self,
        dataset: Any,
        vector_settings: Any,
        value: list[float] | None = None,
        record: Any = None,
        query: TextQuery | str | None = None,
        filter: Any = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """The records whose vectors are most (or least) like a vector or a record's; score (1 + cosine) / 2."""
        vector = np.asarray(value or record.vector_value_by_vector_settings(vector_settings), dtype=float)
        if len(vector) != vector_settings.dimensions:
            raise UnprocessableEntityError(
                f"vector `{vector_settings.name}` has {vector_settings.dimensions} values, not {len(vector)}"
            )
        if order == SimilarityOrder.least_similar:
            vector = -vector
        found = _found(dataset, query)
        if found is _NOTHING:
            return SearchResponses(items=[], total=0)
        # as text: lists of a million numbers are read outside the event loop
        columns = select(Record.id, type_coerce(Vector.value, Text))
        kept = _kept(columns, dataset, found, filter, join=Vector)
        kept = kept.where(Vector.vector_settings_id == vector_settings.id).order_by(NUMBERS.c.number)
        if record is not None:
            kept = kept.where(Record.id != record.id)
        ids: list[UUID] = []
        scores = [np.empty(0)]
        async with AsyncSessionLocal() as db:
            result = await db.stream(kept.execution_options(yield_per=_STREAMED))
            async for rows in result.partitions():
                ids += [row[0] for row in rows]
                scores.append(await asyncio.to_thread(_likeness, [row[1] for row in rows], vector))
        score = np.concatenate(scores)
        best = [int(place) for place in np.argsort(-score, kind="stable")[:max_results]]
        if threshold is not None:
            best = [place for place in best if score[place] >= threshold]
        items = [SearchResponseItem(record_id=ids[place], score=float(score[place])) for place in best]
        return SearchResponses(items=items, total=len(items))


def _likeness(rows: list[str], vector: Any) -> Any:
    """(1 + cosine) / 2 of each row, a vector in JSON, to `vector`; a vector of zeros is at right angles to all."""
    vectors = np.asarray([json.loads(row) for row in rows], dtype=float)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(vector)
    return (1 + vectors @ vector / np.where(lengths > 0, lengths, 1)) / 2


async def _counts(query: Any) -> dict[str, int]:
    async with AsyncSessionLocal() as db:
        counts = dict((await db.execute(query)).tuples().all())
    return {"total": sum(counts.values()), **counts}


_NOTHING = object()
"""The answer to a query with nothing in it to search for, such as a smiley."""


def _found(dataset: Any, query: TextQuery | str | None) -> Any:
    """The hits of a text query; None without one."""
    if query is None:
        return None
    asked = TextQuery(q=query) if isinstance(query, str) else query
    names = [field.name for field in dataset.fields]
    column = field_column(asked.field, names) if asked.field else None
    expression = match_expression(asked.q, dataset.id.hex, column)
    return _NOTHING if expression is None else hits(expression)


def _kept(columns: Any, dataset: Any, found: Any, filter: Any, join: Any = None) -> Any:
    """A query of the dataset's records that are hits, if there is a text query, and pass the filter, if any."""
    source = Record.__table__.join(NUMBERS, NUMBERS.c.record_id == type_coerce(Record.id, String))
    if found is not None:
        source = source.join(found, found.c.number == NUMBERS.c.number)
    if join is not None:
        source = source.join(join, join.record_id == Record.id)
    kept = columns.select_from(source).where(Record.dataset_id == dataset.id)
    return kept if filter is None else kept.where(_where(filter))


def _shuffled(user_id: UUID) -> Any:
    """A shuffle of the records that differs by user and stays put for one user: (number + seed)**5 modulo a prime."""
    number = (NUMBERS.c.number + user_id.int % _PRIME) % _PRIME
    square = number * number % _PRIME
    return (square * square % _PRIME) * number % _PRIME


def _where(filter: Any) -> Any:
    """The condition of a filter on a record."""
    if isinstance(filter, AndFilter):
        return and_(true(), *[_where(part) for part in filter.filters])
    scope = filter.scope
    if isinstance(scope, RecordFilterScope):
        return _where_record(filter, scope.property)
    if isinstance(scope, MetadataFilterScope):
        leaf = _leaf(Record.metadata_, scope.metadata_property)
        return exists(select(1).select_from(leaf).where(_where_leaf(filter, leaf)))
    if isinstance(scope, SuggestionFilterScope):
        source, leaf, of_record = _suggestions(scope)
        return exists(select(1).select_from(source).where(of_record, _where_leaf(filter, leaf)).correlate(Record))
    return _where_response(filter)


def _where_record(filter: Any, name: str) -> Any:
    """A condition on a property of the record itself."""
    if name in ("inserted_at", "updated_at"):
        column = getattr(Record, name)
        if isinstance(filter, TermsFilter):
            return column.in_([_moment(value) for value in filter.values])
        return _between(column, _moment(filter.ge), _moment(filter.le, last=True))
    # as text: a value that is no id and no status is found nowhere, instead of refused by the column's type
    column = type_coerce(getattr(Record, name), String)
    read = _id_digits if name == "id" else str
    if isinstance(filter, TermsFilter):
        return column.in_([read(value) for value in filter.values])
    ge, le = (None if end is None else read(end) for end in (filter.ge, filter.le))
    return _between(column, ge, le)


def _where_response(filter: Any) -> Any:
    """A condition on the responses to a record: of the scope's user, or of anybody without one."""
    scope = filter.scope
    given = [Response.record_id == Record.id]
    if scope.user:
        given.append(Response.user_id == scope.user.id)
    if scope.question:
        leaf = _leaf(Response.values, scope.question, "value")
        found = select(1).select_from(Response).join(leaf, true()).where(*given, _where_leaf(filter, leaf))
        return exists(found.correlate(Record))
    if scope.property != "status" or isinstance(filter, RangeFilter):
        raise UnprocessableEntityError("a filter on responses takes a question, or the property `status` and terms")
    statuses = set(filter.values)
    found = select(1).select_from(Response).where(*given)
    answered = found.where(type_coerce(Response.status, String).in_(statuses - {ResponseStatusFilter.pending}))
    conditions = [exists(answered.correlate(Record))]
    if ResponseStatusFilter.pending in statuses:
        conditions.append(~exists(found.correlate(Record)))
    return or_(*conditions)


def _suggestions(scope: Any) -> tuple[Any, Any, Any]:
    """What to select a record's suggestion to a question from, the leaf of its property, and the condition for it."""
    if scope.property not in ("value", "score", "agent", "type"):
        raise UnprocessableEntityError(f"a suggestion has no property `{scope.property}`")
    stored = getattr(Suggestion, scope.property)
    leaf = _leaf(stored if scope.property in ("value", "score") else func.json_array(type_coerce(stored, String)))
    source = Suggestion.__table__.join(Question, Question.id == Suggestion.question_id).join(leaf, true())
    return source, leaf, and_(Suggestion.record_id == Record.id, Question.name == scope.question)


def _leaf(document: Any, *keys: str) -> Any:
    """The values under `keys` in a JSON column, lists taken apart: a table of their `value` and `type`.

    Keys are compared and not put in a path: SQLite's paths cannot hold a key that has a quote in it.
    """
    for key in keys:
        pair = func.json_each(document).table_valued("key", "value", "type")
        value = case(
            (pair.c.type.in_(["array", "object"]), pair.c.value),
            (pair.c.type.in_(["true", "false"]), func.json_array(pair.c.type)),
            else_=func.json_array(pair.c.value),
        )
        document = select(value).select_from(pair).where(pair.c.key == key).scalar_subquery()
    return func.json_each(document).table_valued("value", "type")


def _term(leaf: Any) -> Any:
    """A leaf as Elasticsearch's keyword."""
    return case((leaf.c.type.in_(["true", "false"]), leaf.c.type), else_=cast(leaf.c.value, Text))


def _where_leaf(filter: Any, leaf: Any) -> Any:
    """A condition on a value in JSON; terms also find a number that is written in another way."""
    is_number = leaf.c.type.in_(["integer", "real"])
    if isinstance(filter, TermsFilter):
        numbers = [number for number in map(_number, filter.values) if number is not None]
        return or_(_term(leaf).in_(filter.values), and_(is_number, leaf.c.value.in_(numbers)))
    ends = [None if end is None else _number(end) for end in (filter.ge, filter.le)]
    if all(given is None or end is not None for given, end in zip((filter.ge, filter.le), ends, strict=True)):
        return and_(is_number, _between(leaf.c.value, *ends))
    return and_(leaf.c.type == "text", _between(leaf.c.value, *(end and str(end) for end in (filter.ge, filter.le))))


def _between(column: Any, ge: Any, le: Any) -> Any:
    """From `ge` to `le`, both included; None is no bound."""
    return and_(
        column.is_not(None), *([column >= ge] if ge is not None else []), *([column <= le] if le is not None else [])
    )


def _number(value: float | str) -> float | None:
    """A number of a request, or None if it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moment(value: float | str | None, last: bool = False) -> datetime | None:
    """A time of a request, an ISO text or milliseconds since 1970, in UTC as the database has it.

    `last` takes a day without a time to its end.
    """
    if value is None:
        return None
    try:
        milliseconds = _number(value)
        if milliseconds is not None:
            return datetime(1970, 1, 1) + timedelta(milliseconds=milliseconds)
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        return moment + timedelta(days=1, microseconds=-1) if last and len(str(value)) == 10 else moment
    except (ValueError, OverflowError):
        raise UnprocessableEntityError(f"`{value}` is not a time, such as 2024-05-31T12:00:00") from None


def _id_digits(value: float | str) -> str:
    """An id as the database has it."""
    return str(value).lower().replace("-", "")


def _order(order: Any) -> Any:
    """What a record is sorted by: of several values the least if ascending, the greatest if descending; nulls last."""
    scope = order.scope
    descending = order.order == SortOrder.desc
    pick = func.max if descending else func.min
    if isinstance(scope, RecordFilterScope):
        key = type_coerce(getattr(Record, scope.property), String)
    elif isinstance(scope, MetadataFilterScope):
        leaf = _leaf(Record.metadata_, scope.metadata_property)
        key = select(pick(leaf.c.value)).select_from(leaf).scalar_subquery()
    elif isinstance(scope, SuggestionFilterScope):
        source, leaf, of_record = _suggestions(scope)
        key = select(pick(leaf.c.value)).select_from(source).where(of_record).correlate(Record).scalar_subquery()
    else:
        key = _response_key(scope, pick)
    return (key.desc() if descending else key.asc()).nulls_last()


def _response_key(scope: Any, pick: Any) -> Any:
    """The mean of the responses' numbers, or one of their terms or statuses; of the scope's user, if it has one."""
    if scope.question:
        leaf = _leaf(Response.values, scope.question, "value")
        source = Response.__table__.join(leaf, true())
        mean = func.avg(case((leaf.c.type.in_(["integer", "real"]), leaf.c.value)))
        value = func.coalesce(mean, pick(leaf.c.value))
    elif scope.property == "status":
        source, value = Response.__table__, pick(type_coerce(Response.status, String))
    else:
        raise UnprocessableEntityError("an order of responses takes a question or the property `status`")
    query = select(value).select_from(source).where(Response.record_id == Record.id)
    if scope.user:
        query = query.where(Response.user_id == scope.user.id)
    return query.correlate(Record).scalar_subquery()
