"""Full-text index of Argilla's records inside its own SQLite database, kept by triggers so that it is never stale."""

import re
import unicodedata
from typing import NamedTuple

from sqlalchemy import CTE, Engine, Float, Integer, column, table, text
from sqlalchemy.engine import Connection

NUMBERS = table("search_records", column("number"), column("record_id"))
"""Record id -> an integer of our own: rowids of `records`, which has no integer key, change under VACUUM."""

_COLUMNS = 64
"""Fields of a dataset that have an FTS column of their own, in the order of their names; any more share the last."""

_NESTING = 12
"""Levels of a query that the FTS5 parser, whose stack holds 100 entries, takes without overflowing."""

_MESSAGE_END = "' ' || char(57344) || ' '"
"""A private-use letter, which the tokenizer indexes: it keeps a phrase from running over two chat messages."""

_TABLES = {
    "search_records": "CREATE TABLE search_records (number INTEGER PRIMARY KEY, record_id CHAR(32) NOT NULL UNIQUE)",
    "search_texts": (
        f"CREATE VIRTUAL TABLE search_texts USING fts5(dataset, {', '.join(f'f{i}' for i in range(_COLUMNS))}, "
        "tokenize = 'unicode61 remove_diacritics 2')"
    ),
}

_INDEXES = {
    # covers counts and queue pages: `dataset_id` and `status` lie behind the texts of a record, pages away
    "search_records_queue": "CREATE INDEX search_records_queue ON records (dataset_id, status, inserted_at, id)",
    "search_records_dataset": "CREATE INDEX search_records_dataset ON records (id, dataset_id)",
    "search_responses_user": "CREATE INDEX search_responses_user ON responses (user_id, record_id, status)",
}
"""Indexes that the search engine needs and Argilla's migrations do not make."""


def _index_texts(where: str) -> str:
    """SQL that adds the texts of records to the index; chat messages lose their roles, images are left out."""
    columns = [
        f"group_concat(iif(min(place, {_COLUMNS - 1}) = {i}, words, NULL), {_MESSAGE_END})" for i in range(_COLUMNS)
    ]
    # LIMIT keeps SQLite from flattening the inner query, which would make `words` anew for every column
    return f"""
    INSERT INTO search_texts (rowid, dataset, {", ".join(f"f{i}" for i in range(_COLUMNS))})
    SELECT number, dataset_id, {", ".join(columns)}
    FROM (
        SELECT number, record.dataset_id AS dataset_id,
            (SELECT count(*) FROM fields AS earlier
             WHERE earlier.dataset_id = record.dataset_id AND earlier.name < field.name) AS place,
            (SELECT group_concat(leaf.atom, {_MESSAGE_END})
             FROM json_tree(iif(given.type IN ('array', 'object'), given.value, json_quote(given.value))) AS leaf
             WHERE field.name IS NOT NULL
                AND NOT (json_extract(field.settings, '$.type') = 'chat' AND leaf.key IS 'role')) AS words
        FROM records AS record
        JOIN search_records ON record_id = record.id
        LEFT JOIN json_each(record.fields) AS given
        LEFT JOIN fields AS field ON field.dataset_id = record.dataset_id AND field.name = given.key
            AND json_extract(field.settings, '$.type') <> 'image'
        WHERE {where}
        LIMIT -1
    )
    GROUP BY number"""


_FORGET_TEXTS = "DELETE FROM search_texts WHERE rowid = (SELECT number FROM search_records WHERE record_id = old.id)"

_TRIGGERS = {
    "search_record_added": f"""CREATE TRIGGER search_record_added AFTER INSERT ON records BEGIN
    INSERT INTO search_records (record_id) VALUES (new.id);{_index_texts("record.id = new.id")};
END""",
    "search_record_changed": f"""CREATE TRIGGER search_record_changed AFTER UPDATE OF fields ON records BEGIN
    {_FORGET_TEXTS};{_index_texts("record.id = new.id")};
END""",
    "search_record_removed": f"""CREATE TRIGGER search_record_removed AFTER DELETE ON records BEGIN
    {_FORGET_TEXTS};
    DELETE FROM search_records WHERE record_id = old.id;
END""",
}


def install(engine: Engine) -> None:
    """Bring the index of a migrated Argilla database up to date: make what is missing, add records without a number.

    Does nothing to an index that is complete. Rebuilds the texts if a trigger or the table was missing or is of
    another version of this file, since what changed meanwhile is unknown.
    """
    with engine.connect() as connection:
        # readers of a queue and a writer of answers do not wait for each other
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        made = dict(
            connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").tuples().all()
        )
        watched = {"search_texts": _TABLES["search_texts"], **_TRIGGERS}
        if any(made.get(name) != sql for name, sql in watched.items()):
            for name in [name for name in _TRIGGERS if name in made]:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql("DROP TABLE IF EXISTS search_texts")
            made = {name: sql for name, sql in made.items() if name not in watched}
        for name, sql in (_TABLES | _INDEXES | _TRIGGERS).items():
            if name not in made:
                connection.exec_driver_sql(sql)
        _backfill(connection)
        connection.commit()


def _backfill(connection: Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO search_records (record_id) SELECT id FROM records "
        "WHERE id NOT IN (SELECT record_id FROM search_records) ORDER BY inserted_at, id"
    )
    connection.exec_driver_sql("DELETE FROM search_records WHERE record_id NOT IN (SELECT id FROM records)")
    connection.exec_driver_sql("DELETE FROM search_texts WHERE rowid NOT IN (SELECT number FROM search_records)")
    connection.exec_driver_sql(_index_texts("number NOT IN (SELECT rowid FROM search_texts)"))


def hits(expression: str) -> CTE:
    """The records that an FTS5 expression of `match_expression` finds: columns `number` and `score`, best highest."""
    # no weight for the column that holds the dataset's id; the others weigh 1
    found = text(
        "SELECT rowid AS number, -bm25(search_texts, 0.0) AS score FROM search_texts WHERE search_texts MATCH :search"
    )
    # materialized, or SQLite may run the match once for each record that the other filters keep
    return found.bindparams(search=expression).columns(number=Integer, score=Float).cte().prefix_with("MATERIALIZED")


def field_column(name: str, names: list[str]) -> str:
    """The FTS column of the field `name` in a dataset whose fields are `names`."""
    return f"f{min(sorted(names).index(name), _COLUMNS - 1)}"


_PART = re.compile(r'(?P<not>-*)(?:"(?P<phrase>[^"]*)"|(?P<open>\()|(?P<word>[^\s"()|]+))|(?P<mark>[|)])')


class _Tree(NamedTuple):
    operator: str
    parts: tuple[str, ...]
    depth: int

    def sql(self) -> str:
        return f"({f' {self.operator} '.join(self.parts)})"


def match_expression(query: str, dataset_id: str, field: str | None = None) -> str | None:
    """An FTS5 expression for what a person typed, or None if nothing in it can be searched for.

    `dataset_id` is 32 hexadecimal digits, `field` an FTS column. The syntax is that of Elasticsearch's
    simple_query_string with the operator AND: words, "phrases", -not, a|b, pre*, (groups), read from left to right
    without precedence. A query nested too deep for FTS5 is read as its words. A blank query or * finds every record.
    """
    everything = f'dataset : "{dataset_id}"'
    if query.strip() in ("", "*"):
        return everything
    tree = _parse(list(_PART.finditer(query)), everything, field)
    return f"{everything} AND {tree.sql()}" if tree is not None else None


def _parse(parts: list[re.Match[str]], everything: str, field: str | None) -> _Tree | None:
    """The query as one tree; `everything` is what a negation is taken from."""
    tree: _Tree | None = None
    operator = "AND"
    around: list[tuple[_Tree | None, str, bool]] = []
    for part in parts:
        if len(around) > _NESTING or (tree is not None and tree.depth > _NESTING):
            return _parse([part for part in parts if not part["open"] and not part["mark"]], everything, field)
        negated = len(part["not"] or "") % 2 == 1
        if part["mark"] == "|":
            operator = "OR"
            continue
        if part["open"]:
            around.append((tree, operator, negated))
            tree, operator = None, "AND"
            continue
        if part["mark"] == ")":
            if not around:
                continue
            inner = tree
            tree, operator, negated = around.pop()
        else:
            inner = _term(part, field)
        tree = _joined(tree, operator, _negated(inner, everything) if negated else inner)
        operator = "AND"
    for outer, operator, negated in reversed(around):
        tree = _joined(outer, operator, _negated(tree, everything) if negated else tree)
    return tree


def _term(part: re.Match[str], field: str | None) -> _Tree | None:
    """One word, prefix or phrase, quoted so that FTS5 reads no operator in it; None if it has nothing to search for."""
    words = part["phrase"] if part["phrase"] is not None else part["word"]
    if not any(_is_searchable(letter) for letter in words):
        return None
    prefix = " *" if part["word"] is not None and words.endswith("*") else ""
    columns = field or "- dataset"
    return _Tree("AND", (f'{columns} : "{words.replace(chr(0), " ")}"{prefix}',), 0)


def _is_searchable(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] in "LN" or category == "Co"


def _negated(tree: _Tree | None, everything: str) -> _Tree | None:
    return None if tree is None else _Tree("NOT", (everything, tree.sql()), tree.depth + 1)


def _joined(tree: _Tree | None, operator: str, right: _Tree | None) -> _Tree | None:
    if tree is None or right is None:
        return right if tree is None else tree
    sides = []
    for side in (tree, right):
        # parts of the same operator stay on one level: long queries are wide, not deep
        alike = side.operator == operator or (len(side.parts) == 1 and side.operator != "NOT")
        sides.append((side.parts, side.depth) if alike else ((side.sql(),), side.depth + 1))
    return _Tree(operator, sides[0][0] + sides[1][0], max(sides[0][1], sides[1][1]))
