"""Conditions on the pairs of a source: SQL over the columns of `COLUMNS`, which can read and write nothing else.

    where = "margin > 0.5 and not list_contains(flags, 'email') and chosen_chars < 2 * rejected_chars"

A condition is parsed before it is run. It holds columns, constants, comparisons and functions that give the same for
the same pair on every machine and at any time; a subquery, another table, a window or a second statement is refused.
"""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl

from curate.files import nearest_hint
from schemas.errors import UserError

TURN = {"turns": pl.col("messages").list.len(), "prompt": pl.col("messages").list.last().struct.field("content")}
COLUMNS: dict[str, pl.Expr] = {
    **{name: pl.col(name) for name in ("pair_id", "prompt_id", "prompt_group", "messages", "chosen", "rejected")},
    # text of the last turn of the prompt, and the number of its turns
    **TURN,
    **{"prompt_chars": TURN["prompt"].str.len_chars()},
    **{f"{side}_chars": pl.col(side).str.len_chars() for side in ("chosen", "rejected")},
    **{name: pl.col(name) for name in ("score_chosen", "score_rejected", "z_chosen", "z_rejected")},
    "margin": pl.col("score_chosen") - pl.col("score_rejected"),
    **{name: pl.col(name).cast(pl.String) for name in ("scorer", "origin", "flaw", "license", "tools")},
    **{name: pl.col(name) for name in ("chosen_finish", "rejected_finish", "is_heldout")},
    # of screening and of the reviewers
    **{"flags": pl.col("flags"), "verdict": pl.col("verdict"), "answers": pl.col("answers")},
}
"""Column of a condition -> how it is made of a row of `Pair` and the facts about it."""

CALLED = """
    + - * / // % ^ ** || & | ~~ !~~ ~~* !~~* ~~~ ^@ like_escape not_like_escape ilike_escape not_ilike_escape
    abs ceil ceiling floor round trunc sign sqrt exp ln log log2 log10 pow power greatest least mod isnan isfinite isinf
    nullif if
    length len strlen char_length lower lcase upper ucase trim ltrim rtrim left right substring substr array_slice
    replace reverse concat concat_ws contains starts_with ends_with prefix suffix instr position strpos split_part
    string_split str_split regexp_matches regexp_full_match regexp_extract regexp_replace regexp_extract_all
    levenshtein jaccard jaro_similarity jaro_winkler_similarity strip_accents md5 sha256 ascii unicode
    list_contains list_has list_has_any list_has_all array_contains array_length list_value list_position list_extract
    list_distinct struct_extract array_extract json_extract json_extract_string json_array_length json_valid ->>
"""
FUNCTIONS = frozenset(CALLED.split())
"""What a condition may call; of all that duckdb has, what says nothing of the time, the machine or a file."""
CLASSES = frozenset(["COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "FUNCTION", "OPERATOR", "CASE", "BETWEEN"])
"""What a condition is made of, in the words of duckdb's parser, beside casts."""
CAST = """
    boolean bool tinyint smallint integer int bigint hugeint utinyint usmallint uinteger ubigint float real double
    decimal numeric varchar text string json list
"""
TYPES = frozenset(CAST.split())
"""What a condition may cast to; times depend on the time zone."""
WORDS = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window, which looks at other pairs",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "LAMBDA": "a lambda",
}

ROWS_PER_BATCH = 16_384
DEEPEST = 100
"""Most parts of a condition that lie in one another."""
TEXT_SHOWN = 80
OPTIONS: dict[str, Any] = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "allow_community_extensions": "false",
    "memory_limit": "1GB",
    # what does not fit into memory is an error, and goes into no file
    "temp_directory": "",
    "max_temp_directory_size": "0B",
    "threads": 1,
}


class Condition:
    """A condition that was found to be one; its texts and numbers are looked at in batches."""

    def __init__(self, text: str, source: str) -> None:
        shown = " ".join(text.split())
        self._name = f'source {source}: where "{shown[:TEXT_SHOWN]}{"..." * (len(shown) > TEXT_SHOWN)}"'
        self._database = duckdb.connect(":memory:", config=OPTIONS)
        self._database.execute(f"SET max_expression_depth = {DEEPEST}")
        self._database.execute("SET lock_configuration = true")
        self._query = f"SELECT (\n{text}\n) AS is_met FROM pairs"
        self.columns = self._check()

    def _check(self) -> list[str]:
        """The columns that the condition names. Raises UserError where it is no condition on a pair."""
        parsed = self._parse(self._query)
        if parsed["error"]:
            raise self._refuse(f"is not SQL ({first_line(parsed['error_message'])})")
        (usual,) = self._parse("SELECT (\n1\n) AS is_met FROM pairs")["statements"]
        if len(parsed["statements"]) != 1:
            raise self._refuse("is more than one statement")
        node = parsed["statements"][0]["node"]
        condition = node.pop("select_list")
        del usual["node"]["select_list"]
        if len(condition) != 1 or without_places(node) != without_places(usual["node"]):
            raise self._refuse("is more than a condition on one pair")
        return sorted(set(self._find_columns(condition[0])))

    def _parse(self, query: str) -> dict[str, Any]:
        """The tree of a query, as duckdb's own parser sees it."""
        parsed: dict[str, Any] = json.loads(self._run("SELECT json_serialize_sql(?::VARCHAR)", [query])[0][0])
        return parsed

    def _find_columns(self, tree: dict[str, Any]) -> Iterator[str]:
        """The columns under a node, when all under it is allowed."""
        for node in walk(tree):
            kind = node["class"]
            if kind == "COLUMN_REF":
                name = node["column_names"][0].lower()
                if name not in COLUMNS:
                    raise self._refuse(f"names '{name}', which is no column{nearest_hint(name, list(COLUMNS))}")
                yield name
            elif kind == "FUNCTION":
                path = [part.lower() for part in node["qualified_name"]["path"]]
                if path == ["row"] and not node["arguments"]:
                    raise self._refuse("holds no condition")
                if len(path) != 1 or path[0] not in FUNCTIONS:
                    name = ".".join(path)
                    raise self._refuse(
                        f"calls '{name}', which is not among the functions of a condition"
                        f"{nearest_hint(name, sorted(FUNCTIONS)) if len(path) == 1 else ''}"
                    )
            elif kind == "TYPE":
                if node["type_name"].lower() not in TYPES:
                    raise self._refuse(f"casts to {node['type_name']}; it may cast to texts, numbers and booleans")
            elif kind not in CLASSES and kind != "CAST":
                raise self._refuse(f"holds {WORDS.get(kind, kind.lower())}; it is a condition on one pair")

    def met(self, pairs: pl.LazyFrame) -> pl.Series:
        """Ids of the pairs that meet the condition; a pair for which it is null does not."""
        names = [name for name in self.columns if name != "pair_id"]
        needed = pairs.select("pair_id", *(COLUMNS[name].alias(name) for name in names))
        self._ask(needed.head(0).collect())
        if (kind := str(self._database.description[0][1]).upper()) not in ("BOOLEAN", "BOOL"):
            raise self._refuse(f"gives {kind}, not true or false")
        batches = needed.collect_batches(chunk_size=ROWS_PER_BATCH, maintain_order=False)
        found = [batch["pair_id"].filter(self._ask(batch)) for batch in batches]
        return pl.concat([pl.Series("pair_id", [], dtype=pl.String), *found])

    def _ask(self, batch: pl.DataFrame) -> pl.Series:
        """What the condition says of each row."""
        self._database.register("pairs", batch.to_arrow())
        return pl.Series([row[0] is True for row in self._run(self._query)], dtype=pl.Boolean)

    def _run(self, query: str, values: list[str] | None = None) -> list[Any]:
        try:
            return self._database.execute(query, values or []).fetchall()
        except duckdb.Error as error:
            raise self._refuse(f"cannot be asked ({first_line(str(error))})") from error

    def _refuse(self, problem: str) -> UserError:
        return UserError(f"{self._name} {problem}")


def walk(tree: Any) -> Iterator[dict[str, Any]]:
    """All nodes of a parsed expression; not by recursion, for a condition may be deep."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict):
            if "class" in node:
                yield node
            left += node.values()


def without_places(value: Any) -> Any:
    """A parsed statement without the places of its parts in the text."""
    if isinstance(value, list):
        return [without_places(each) for each in value]
    if isinstance(value, dict):
        return {name: without_places(each) for name, each in value.items() if not name.startswith("query_location")}
    return value


def first_line(text: str) -> str:
    """What duckdb says, without its advice on settings, which are locked here."""
    return text.strip().splitlines()[0].partition('. Use "SET')[0] if text.strip() else "no reason given"
