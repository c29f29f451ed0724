"""Three people who judged everything: their answers go through a real server and come back whole."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import polars as pl
import pytest
from servers.argilla_fixture import ArgillaServer
from shared_data import DATASETS

from curate.config import BuildConfig
from curate.pipeline.build import build
from curate.review.argilla.accounts import invite
from curate.review.argilla.pull import pull
from curate.review.argilla.push import push
from curate.review.config import InviteConfig, PullConfig, PushConfig
from curate.review.estimate.agreement import pairwise_kappa
from curate.screen.human import named_answers
from curate.store.reviews import read_answers, read_asked

pytestmark = pytest.mark.server

STUDY = DATASETS / "pandalm_pairs_3humans_2judges.parquet"
NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
PEOPLE = ("annotator1", "annotator2", "annotator3")
AT_ONCE = 100
"""Answers a request."""


@pytest.mark.skipif(not STUDY.exists(), reason="the study is not here")
def test_three_annotators_come_back_with_the_kappas_of_their_study(
    argilla_server: ArgillaServer, tmp_path: Path
) -> None:
    study = pl.read_parquet(STUDY)
    source = tmp_path / "study.jsonl"
    with source.open("w") as lines:
        for row in study.iter_rows(named=True):
            prompt = "\n".join(filter(None, [row["instruction"], row["input"]]))
            lines.write(json.dumps({"prompt": prompt, "chosen": row["response1"], "rejected": row["response2"]}) + "\n")
    build(BuildConfig(source=str(source), name="study", skip_rule=NO_VECTORS, data=tmp_path))
    place = {"data": tmp_path, "url": argilla_server.url, "home": argilla_server.home, "workspace": "study"}

    pushed = push(PushConfig(name="study", records=study.height, min_submitted=3, include_dropped=True, **place))

    assert pushed.summary()["datasets"] == {"study": 999}
    tables = json.loads((tmp_path / "builds/study.json").read_text())["tables"]
    pairs = pl.read_parquet(tmp_path / "tables/read_pairs" / tables["read_pairs"] / "part-*.parquet")
    # Rows of the source are shuffled as they are read.
    said = said_of(pairs, study, read_asked(tmp_path, "study"))
    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        list(pool.map(lambda person: replay(argilla_server, person, said, place), PEOPLE))

    pulled = pull(PullConfig(name="study", **place)).summary()

    assert (pulled["submitted"], pulled["drafts"], pulled["discarded"]) == (2997, 0, 0)
    labels = named_answers(read_answers(tmp_path, "study"), read_asked(tmp_path, "study"))
    kappas = pairwise_kappa(labels.select("record_id", "reviewer", label="named"))
    assert [kappa.n for kappa in kappas] == [999, 999, 999]
    assert sorted(round(kappa.kappa or 0, 3) for kappa in kappas) == [0.852, 0.862, 0.879]


def said_of(pairs: pl.DataFrame, study: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """`record_id` and what each annotator says of it: `a`, `b` or `equal`."""
    texts = study.with_columns(
        prompt=pl.concat_str(
            [pl.col(name).replace("", None) for name in ("instruction", "input")], separator="\n", ignore_nulls=True
        )
    )
    same = ["prompt", "response1", "response2"]
    mine = pairs.select(
        "pair_id", response1="chosen", response2="rejected", prompt=pl.col("messages").list.last().struct["content"]
    )
    # The same texts several times: their rows are matched in the order they come, which is as good as any other.
    times = pl.int_range(pl.len()).over(same)
    both = mine.with_columns(time=times).join(texts.with_columns(time=times), on=[*same, "time"])
    assert both.height == study.height
    first, second = (pl.when("a_is_chosen").then(pl.lit(a)).otherwise(pl.lit(b)) for a, b in (("a", "b"), ("b", "a")))
    labeled = asked.join(both, left_on="record_id", right_on="pair_id")
    return labeled.select(
        "record_id",
        *[
            pl.when(pl.col(person) == 1)
            .then(first)
            .when(pl.col(person) == 2)
            .then(second)
            .otherwise(pl.lit("equal"))
            .alias(person)
            for person in PEOPLE
        ],
    )


def replay(server: ArgillaServer, person: str, said: pl.DataFrame, place: dict) -> None:
    """Judge every record as this annotator did, as a user with an account of their own."""
    account = invite(InviteConfig(username=person, **place))
    sign_in = {"username": account.username, "password": account.password}
    token = httpx.post(f"{server.url}/api/v1/token", data=sign_in).raise_for_status().json()["access_token"]
    labels = dict(said.select("record_id", person).rows())
    with httpx.Client(
        base_url=f"{server.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as client:
        dataset = next(one for one in client.get("/me/datasets").json()["items"] if one["name"] == "study")
        search = f"/me/datasets/{dataset['id']}/records/search"
        pending = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}
        while True:
            page = client.post(
                search, params={"limit": AT_ONCE}, json={"filters": {"type": "and", "and": [pending]}}
            ).raise_for_status()
            items = [
                {
                    "record_id": item["record"]["id"],
                    "status": "submitted",
                    "values": {"better": {"value": labels[item["record"]["external_id"]]}},
                }
                for item in page.json()["items"]
            ]
            if not items:
                return
            done = client.post("/me/responses/bulk", json={"items": items}).raise_for_status()
            assert all(item["error"] is None for item in done.json()["items"])
