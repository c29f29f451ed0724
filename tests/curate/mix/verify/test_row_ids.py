import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.mix.verify.row_ids import text_ids
from schemas.ids import pair_key, prompt_group, prompt_key

# no half of a surrogate pair, which no Parquet file holds
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text('a"\\\n\t\x00\x1f\x7fİß_', max_size=8)
turn = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": text})
MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


@given(st.lists(st.tuples(st.lists(turn, min_size=1, max_size=3), text, text), min_size=1, max_size=4))
def test_ids_of_many_rows_are_those_of_each_row(rows):
    frame = pl.DataFrame(rows, schema={"prompt": MESSAGES, "chosen": pl.String, "rejected": pl.String}, orient="row")

    found = text_ids(frame)

    for (messages, chosen, rejected), ids in zip(rows, found.to_dicts(), strict=True):
        asks = any(message["role"] == "user" for message in messages)
        assert ids == {
            "prompt_key": prompt_key(messages),
            "group_key": prompt_group(messages) if asks else None,
            "pair_key": pair_key(messages, chosen, rejected),
            "turned_key": pair_key(messages, rejected, chosen),
        }
