import os
from contextlib import suppress

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.mix.where import COLUMNS, FUNCTIONS, Condition
from schemas.errors import UserError


@pytest.fixture
def pairs(make_pairs):
    """Three pairs a, b and c, of which c has no scores."""
    rows = make_pairs(
        pair_id=["a", "b", "c"],
        prompt=["How old is it?", "What is ünlike?", 'it\'s "quoted"'],
        chosen=["It is old.", "Nothing.", "Yes"],
        rejected=["No.", "No idea at all.", "No"],
        score_chosen=[2.0, 1.5, None],
        score_rejected=[1.0, 1.0, None],
        license=["MIT", "unknown", "MIT"],
    )
    return rows.with_columns(
        flags=pl.Series([["personal_data"], [], []], dtype=pl.List(pl.String)),
        verdict=pl.Series(["accept", None, None], dtype=pl.String),
        answers=pl.Series([2, 0, 0], dtype=pl.UInt32),
    )


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("margin > 0.5", "a"),
        ("margin >= 0.5 AND license = 'MIT' -- a comment", "a"),
        ("margin is null", "c"),
        # null is not true
        ("not margin > 0.5", "b"),
        ("chosen_chars between 3 and 8", "bc"),
        ("CHOSEN_CHARS < rejected_chars", "b"),
        ("list_contains(flags, 'personal_data')", "a"),
        ("'personal_data' not in flags", "bc"),
        ("len(flags) = 0", "bc"),
        ("prompt like '%ü%'", "b"),
        ("prompt_chars = 15", "b"),
        ("regexp_matches(lower(chosen), '^(it|yes)')", "ac"),
        ("coalesce(verdict, 'none') = 'none'", "bc"),
        ("answers >= 2 or case when turns = 1 then license = 'unknown' else false end", "ab"),
        ("messages[1].content ilike 'HOW%'", "a"),
        ("try_cast(chosen as integer) is null and origin = 'real' and not is_heldout", "abc"),
        ("license in ('MIT', 'Apache-2.0')", "ac"),
        ("pair_id = 'b'", "b"),
        ("prompt = 'it''s \"quoted\"'", "c"),
        ("true", "abc"),
        ("false", ""),
        ("null::boolean", ""),
    ],
)
def test_a_condition_is_met_by_the_pairs_it_says(pairs, text, met):
    found = Condition(text, "sft").met(pairs.lazy())

    assert "".join(sorted(found)) == met


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_change_nothing(pairs, monkeypatch, batch):
    whole = Condition("license = 'MIT'", "sft").met(pairs.lazy())
    monkeypatch.setattr("curate.mix.where.ROWS_PER_BATCH", batch)

    assert sorted(Condition("license = 'MIT'", "sft").met(pairs.lazy())) == sorted(whole) == ["a", "c"]


HOSTILE = [
    ("exists(select 1 from read_csv('{secret}'))", "a subquery"),
    ("chosen in (select content from read_text('{secret}'))", "a subquery"),
    ("(select count(*) from '{secret}') > 0", "a subquery"),
    ("true); COPY (SELECT 1) TO '{out}'; SELECT (true", "more than one statement|not SQL"),
    ("true; ATTACH '{out}'", "not SQL"),
    ("true) FROM pairs; ATTACH '{out}'; --", "not SQL|more than"),
    ("true) AS is_met FROM read_csv('{secret}') --", "not SQL|more than"),
    ("true), (false", "more than a condition"),
    ("true) AS is_met, (select max(content) from read_text('{secret}')", "more than a condition|subquery"),
    ("read_blob('{secret}') is null", "calls 'read_blob'"),
    ("getenv('HOME') = ''", "calls 'getenv'"),
    ("current_setting('memory_limit') = ''", "calls 'current_setting'"),
    ("pg_catalog.pg_sleep(1) is null", "calls 'pg_catalog.pg_sleep'"),
    ("random() < 0.5", "calls 'random'"),
    ("uuid() is null", "calls 'uuid'"),
    ("now() is null", "calls 'now'"),
    ("current_date is null", "names 'current_date'"),
    ("current_user = 'me'", "names 'current_user'"),
    ("pairs is null", "names 'pairs'"),
    ("count(*) > 1", "calls 'count_star'"),
    ("row_number() over () = 1", "a window"),
    ("COLUMNS(*) is null", "a star"),
    ("* ", "not SQL|a star"),
    ("$1", "a parameter"),
    ("len(list_filter(flags, lambda current_date: current_date is null)) > 0", "list_filter|a lambda"),
    ("chosen::timestamptz is null", "casts to timestamptz"),
    ("repeat(chosen, 1000000000) = ''", "calls 'repeat'"),
    ("chosne = 'x'", "did you mean 'chosen'"),
    ("lenght(chosen) > 1", "did you mean 'length'"),
    ("chosen", "gives VARCHAR|gives STRING"),
    ("chosen_chars", "not true or false"),
    ("chosen::integer > 1", "cannot be asked"),
    ("margin >", "not SQL"),
    ("", "holds no condition"),
    ("--", "holds no condition"),
    ("length(1, 2, 3) = 1", "cannot be asked"),
    ("regexp_matches(chosen, '(')", "cannot be asked"),
    ("true UNION SELECT true", "not SQL|more than"),
    ("true) AS is_met FROM pairs LIMIT 1 --", "not SQL|more than"),
    ("true ORDER BY 1", "not SQL"),
]


@pytest.mark.parametrize(("text", "problem"), HOSTILE)
def test_what_is_no_condition_on_a_pair_is_refused_in_one_sentence(pairs, tmp_path, text, problem):
    secret, out = tmp_path / "secret.csv", tmp_path / "out.db"
    secret.write_text("a\n1\n")
    before = os.listdir(), os.listdir(tmp_path)

    with pytest.raises(UserError, match=problem) as refused:
        Condition(text.format(secret=secret, out=out), "sft").met(pairs.lazy())

    assert str(refused.value).startswith("source sft: where ")
    assert "\n" not in str(refused.value)
    assert (os.listdir(), os.listdir(tmp_path)) == before


def test_the_database_itself_reaches_no_file_even_where_nothing_is_checked(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    database = Condition("true", "sft")._database

    for query in (
        f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/out.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "SELECT * FROM pairs_of_python",
    ):
        with pytest.raises(duckdb.Error):
            database.execute(query)
    assert os.listdir(tmp_path) == ["secret.csv"]


def test_every_function_of_a_condition_is_one_of_duckdb_that_always_gives_the_same():
    query = "SELECT function_name, function_type, stability FROM duckdb_functions()"
    known = [row for row in duckdb.connect().execute(query).fetchall() if row[0] in FUNCTIONS]

    assert {name for name, kind, _ in known if kind in ("scalar", "macro")} == FUNCTIONS
    assert {stability for _, kind, stability in known if kind == "scalar"} == {"CONSISTENT"}


@pytest.mark.parametrize("deep", ["not ", "(", "- ", "1 + ", "case when true then "])
@pytest.mark.parametrize("times", [150, 900, 100_000])
def test_a_condition_that_is_too_deep_is_refused(deep, times):
    text = deep * times + "1 = 1" + (")" * times if deep == "(" else " end" * times if "case" in deep else "")

    with pytest.raises(UserError, match=r"depth limit of 100|not SQL|cannot be asked") as refused:
        Condition(text, "sft")
    assert len(str(refused.value)) < 400


WORDS = "chosen margin 1 'a' ( ) = > and not select ; -- from in , * pairs length( null [ ] . :: integer ' \" $1 /* */"


@given(st.lists(st.sampled_from([*WORDS.split(), "\0", "\n"]), max_size=8))
def test_any_text_is_a_condition_or_refused(words):
    with suppress(UserError):
        Condition(" ".join(words), "sft")


def test_every_column_can_be_asked_for(pairs):
    for name in COLUMNS:
        assert Condition(f"{name} is null or true", "sft").met(pairs.lazy()).len() == 3
