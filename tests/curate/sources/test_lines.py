"""Lines, prompts and tables of text become rows, and a line that is none is shown as it came."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.sources.row import LONGEST, BadRow
from curate.sources.rows import first_rows, raw_rows, rows_config
from schemas.errors import UserError


@pytest.fixture
def read(tmp_path):
    """The rows of a file with this name and content, as they lie; in another order they are the same."""

    def rows(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = list(raw_rows(rows_config(str(path), None, None)))
        shuffled = list(raw_rows(rows_config(str(path), None, 7)))
        assert sorted(map(repr, shuffled)) == sorted(map(repr, found))
        assert first_rows(rows_config(str(path), None, 7), len(found)) == found
        return found

    return rows


def refused(read, name, content):
    with pytest.raises(UserError) as error:
        read(name, content)
    assert name in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content", ["\n", " \r\n\n", "prompt,chosen\n", "\n\nprompt,chosen"])
def test_a_file_without_rows_is_named(read, content):
    name = "rows.csv" if "prompt" in content else "rows.txt"

    assert "has no rows" in refused(read, name, content)


@pytest.mark.parametrize("content", ["\n\n", ",,\n1,2,3\n", b"\xfa\xfe\xfd,a\n1,2\n", b"a\x80,b\n", "a" * 100_000])
def test_a_table_without_names_of_columns_is_refused(read, content):
    assert "does not begin with a line of column names" in refused(read, "rows.csv", content)


def test_two_columns_of_a_name_are_refused(read):
    assert "has two columns named 'chosen'" in refused(read, "rows.csv", "prompt,chosen, chosen\n1,2,3\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_last_line_needs_no_end(read, end):
    assert read("rows.txt", f"one\n\n  two {end}") == [{"prompt": "one"}, {"prompt": "  two "}]
    assert read("rows.csv", f"prompt,chosen\na,b{end}") == [{"prompt": "a", "chosen": "b"}]
    assert read("rows.jsonl", f'{{"a": 1}}{end}') == [{"a": 1}]


def test_a_field_keeps_its_line_ends_quotes_and_commas(read):
    text = 'one\r\ntwo, "three"\n\nfour\rfive \x00'
    quoted = text.replace('"', '""')

    assert read("rows.csv", f'prompt,chosen\r\n"{quoted}",5\r\n"b","c"\r\n') == [
        {"prompt": text, "chosen": "5"},
        {"prompt": "b", "chosen": "c"},
    ]


def test_an_empty_field_is_null_and_a_number_is_text(read):
    assert read("rows.csv", 'prompt,score_chosen,score_rejected\n"",007,\nb,1e3,NaN\n') == [
        {"prompt": None, "score_chosen": "007", "score_rejected": None},
        {"prompt": "b", "score_chosen": "1e3", "score_rejected": "NaN"},
    ]


def test_the_row_numbers_of_pandas_are_no_column(read):
    assert read("rows.csv", ",prompt\n0,a\n1,b\n") == [{"prompt": "a"}, {"prompt": "b"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_shows_what_is_between_columns(read, delimiter):
    lines = [["prompt", "chosen"], ['"a, b; c | d"', "e"]]

    rows = read("rows.csv", "\n".join(delimiter.join(line) for line in lines))

    assert rows == [{"prompt": "a, b; c | d", "chosen": "e"}]


def test_in_a_tsv_only_tabs_part_columns(read):
    assert read("rows.tsv", "prompt\tchosen,one\na,b\tc;d\n") == [{"prompt": "a,b", "chosen,one": "c;d"}]


@pytest.mark.parametrize("line", ["a", "a,b,c", "a,b,", '"a"b,c', b"caf\xe9,b"])
def test_a_line_that_does_not_fit_its_table_is_kept_as_it_came(read, line):
    line = line if isinstance(line, bytes) else line.encode()

    rows = read("rows.csv", b"prompt,chosen\n1,2\n" + line + b"\n3,4\n")

    assert rows == [
        {"prompt": "1", "chosen": "2"},
        BadRow(line.decode("utf-8", "backslashreplace")),
        {"prompt": "3", "chosen": "4"},
    ]


def test_a_quote_that_is_never_closed_is_refused_where_it_opens(read):
    assert "a quote that opens in line 3 or later" in refused(read, "rows.csv", 'a,b\n1,2\n3,"4\n5,6\n' + "7,8\n" * 99)


@pytest.mark.parametrize("name", ["rows.txt", "rows.jsonl"])
def test_a_line_in_another_encoding_is_kept_by_its_bytes(read, name):
    good = b'{"prompt": "hi"}'

    rows = read(name, good + b'\n{"prompt": "Caf\xe9 \x93tea\x94"}\n' + good)

    assert rows[1] == BadRow('{"prompt": "Caf\\xe9 \\x93tea\\x94"}')
    assert rows[0] == rows[2] != rows[1]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["rows.txt", "rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.jsonl.gz"])
def test_a_byte_order_mark_tells_the_encoding(read, name, encoding):
    text = "Wie süß ist 茶\u2028 🍵?"
    content = {"txt": text, "csv": f"prompt\n{text}\n", "tsv": f"prompt\n{text}\n", "json": f'[{{"prompt": "{text}"}}]'}
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    data = (mark + content.get(name.split(".")[1], f'{{"prompt": "{text}"}}')).encode(encoding)

    assert read(name, gzip.compress(data) if name.endswith("gz") else data) == [{"prompt": text}]


@pytest.mark.parametrize("name", ["rows.txt", "rows.csv", "rows.json"])
def test_what_only_begins_like_utf16_is_refused(read, name):
    assert "begins like UTF-16 and is not" in refused(read, name, "p\n".encode("utf-16") + b"\x00\xd8a")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.txt"])
def test_a_line_that_is_too_long_is_no_row_and_the_next_one_is(read, name):
    after = '{"prompt": "hi"}'

    first, second = read(name, '{"prompt": "' + "x" * (2 * LONGEST) + '"}\n' + after)

    assert isinstance(first, BadRow)
    assert len(first.raw) == 10_000
    assert second == {"prompt": "hi" if name.endswith("jsonl") else after}


def test_a_table_with_a_line_that_is_too_long_is_refused(read):
    assert "has a line of more than" in refused(read, "rows.csv", "a,b\n" + "x" * (LONGEST + 1))


@pytest.mark.parametrize(
    ("sign", "said"),
    [
        (b"PAR1", "end in .parquet"),
        (b"ARROW1\0\0", "end in .arrow"),
        (gzip.compress(b"{}", mtime=0), "end in .gz"),
        (b"\x28\xb5\x2f\xfd", "end in .zst"),
        (b"PK\x03\x04", "is a zip archive"),
    ],
)
@pytest.mark.parametrize("name", ["rows.txt", "rows.csv", "rows.json", "rows.jsonl"])
def test_another_kind_of_file_is_refused_by_its_first_bytes(read, name, sign, said):
    assert said in refused(read, name, sign + b"\n1,2\n" * 100)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=12)


@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"))
def test_a_table_that_was_written_is_read(tmp_path_factory, rows, delimiter):
    import csv

    path = tmp_path_factory.mktemp("table") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("prompt", "chosen"), *rows])

    found = list(raw_rows(rows_config(str(path), None, None)))

    assert found == [{"prompt": a or None, "chosen": b or None} for a, b in rows]
