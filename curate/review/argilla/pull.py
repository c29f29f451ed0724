"""Pull the answers of all reviewers from Argilla.

pull(PullConfig(name="sft"))
"""

import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import Damaged, read_record, write_record
from curate.review.answers import KEY, answer_row, merge_answers, parse_utc, reviewer_id, withdraw_answers
from curate.review.argilla.accounts import list_pseudonyms
from curate.review.argilla.client import ArgillaClient, connect
from curate.review.argilla.dataset import Dataset, open_dataset
from curate.review.argilla.push import read_uploaded
from curate.review.argilla.records import find_records
from curate.review.collected import CollectedAnswers, count_each, count_verdicts
from curate.review.config import PullConfig
from curate.screen.human import latest_answers
from curate.store.reviews import (
    ANSWERS,
    PULLED,
    Review,
    answers_to_collect,
    begun_review,
    lock_review,
    read_asked,
    review_folder,
    save_answers,
)
from schemas.errors import UserError
from schemas.tables import Annotation

log = logging.getLogger(__name__)

PAGE = 500
"""Records a request."""
STATES = ("submitted", "draft", "discarded")

RESPONSE = {**Annotation.create_empty().schema, "state": pl.String()}
"""An answer with its status in Argilla."""


def pull(cfg: PullConfig) -> CollectedAnswers:
    """Pull all answers; nothing is written before everything was read.

    Answers of records, reviewers or datasets that were deleted in Argilla stay as they were pulled. Raises UserError
    for a review that was never pushed, and where none of its datasets is left.
    """
    with connect(cfg) as server, lock_review(cfg.data, cfg.name):
        review, asked = begun_review(cfg.data, cfg.name), read_asked(cfg.data, cfg.name)
        answers, seen_before = answers_to_collect(cfg.data, cfg.name), read_pulled(cfg.data, cfg.name)
        uploaded = read_uploaded(cfg.data, cfg.name)
        pulled: dict[str, dict[str, Any]] = {}
        for dataset in open_datasets(server, review):
            state = read_state(server, dataset)
            before = seen_before.get(dataset.id)
            if before and before["state"] == state:
                pulled[dataset.id] = before
                continue
            responses = keep_asked(dataset, fetch_responses(server, dataset), asked)
            pulled[dataset.id] = {"state": state, "counts": count_each(responses["state"], STATES)}
            records = uploaded.get(dataset.id, set())
            answers = merge_answers(answers, new_versions(server, dataset, responses, answers, records))
        # Written first: were the states saved without the answers, the next pull would not look for them.
        save_answers(cfg.data, cfg.name, answers)
        write_record(review_folder(cfg.data, cfg.name) / PULLED, {"datasets": pulled})
    counts = {state: sum(dataset["counts"][state] for dataset in pulled.values()) for state in STATES}
    by_verdict, needs_review = count_verdicts(answers, asked)
    return CollectedAnswers(
        name=cfg.name,
        submitted=counts["submitted"],
        drafts=counts["draft"],
        discarded=counts["discarded"],
        verdicts=by_verdict,
        needs_review=needs_review,
    )


def open_datasets(server: ArgillaClient, review: Review) -> list[Dataset]:
    """The datasets of a review that are on the server. Raises UserError where there is none."""
    again = f"records without answers are sent again by: curate review push {review.name}"
    if not review.datasets:
        raise UserError(
            f"review '{review.name}' is on no server yet; put it there with: curate review push {review.name}"
        )
    found = []
    for name, known in review.datasets.items():
        if dataset := open_dataset(server, name, known["id"]):
            found.append(dataset)
            continue
        log.warning(
            "dataset '%s' is not on %s any more; what was pulled of it is kept, and %s", name, server.url, again
        )
    if not found:
        raise UserError(
            f"no dataset of review '{review.name}' is on {server.url} any more; what was pulled is kept, and {again}"
        )
    return found


def read_state(server: ArgillaClient, dataset: Dataset) -> dict[str, Any]:
    """State of a dataset that changes when an answer does.

    Argilla notes the time of the last answer given in its UI or through its API for answers; those that come with
    records, as its SDK sends them, show in the counts of each user.
    """
    users = server.get(f"/datasets/{dataset.id}/users/progress")["users"]
    # names stay with the server
    progress = {reviewer_id(user.pop("username")): user for user in users}
    return {"last_activity": dataset.last_activity, "progress": progress}


def fetch_responses(server: ArgillaClient, dataset: Dataset) -> pl.DataFrame:
    """All responses to all records, of all users, as rows of `RESPONSE`."""
    scope = {"entity": "response", "property": "status"}
    by_id = {"scope": {"entity": "record", "property": "id"}, "order": "asc"}
    query = {
        "filters": {"type": "and", "and": [{"type": "terms", "scope": scope, "values": list(STATES)}]},
        # A fixed order: a record that is answered meanwhile then moves others to later pages only.
        "sort": [by_id],
    }
    rows: list[dict[str, Any]] = []
    offset = 0
    while True:
        path = f"/datasets/{dataset.id}/records/search"
        items = server.search(path, query, include="responses", limit=PAGE, offset=offset)["items"]
        rows += [row for item in items for row in read_responses(item["record"])]
        offset += PAGE
        if len(items) < PAGE:
            return pl.DataFrame(rows, schema=RESPONSE)


def read_responses(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The responses to a record as Argilla gives it; without an id of ours where it came from somebody else."""
    rows = []
    for response in record["responses"]:
        values = {name: value["value"] for name, value in (response["values"] or {}).items()}
        row = answer_row(
            record["external_id"] or "",
            reviewer_id(response["user_id"]),
            parse_utc(response["updated_at"]),
            **{name: values.get(name) for name in ("better", "sure", "wrong", "note")},
        )
        rows.append({**row, "state": response["status"]})
    return rows


def keep_asked(dataset: Dataset, responses: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The responses to records that we asked about."""
    ours = responses.filter(pl.col("record_id").is_in(asked["record_id"].implode()))
    if strange := responses.height - ours.height:
        log.warning("dataset '%s': %d answers are to records that were not asked here; left out", dataset.name, strange)
    return ours


def new_versions(
    server: ArgillaClient, dataset: Dataset, responses: pl.DataFrame, history: pl.DataFrame, uploaded: set[str]
) -> pl.DataFrame:
    """Rows of `Annotation`: what is submitted, and what was taken back since."""
    submitted = responses.filter(pl.col("state") == "submitted").drop("state")
    if unreadable := submitted.filter(pl.col("status") == "unreadable").height:
        log.warning(
            "dataset '%s': %d answers hold a label that is not ours; they are kept and not counted",
            dataset.name,
            unreadable,
        )
    unsubmitted = responses.filter(pl.col("state") != "submitted").select(KEY)
    gone = find_withdrawn_answers(server, dataset, responses, history, uploaded)
    return pl.concat([submitted, withdraw_answers(history, pl.concat([unsubmitted, gone]))])


def find_withdrawn_answers(
    server: ArgillaClient, dataset: Dataset, responses: pl.DataFrame, history: pl.DataFrame, uploaded: set[str]
) -> pl.DataFrame:
    """Answers that were pulled and are not on the server any more, though their record and their reviewer are.

    A record that is younger than its answer was put there anew: the answer went with an older dataset, and stays.
    """
    standing = latest_answers(history).filter(pl.col("status") != "withdrawn")
    known = standing.filter(pl.col("record_id").is_in(list(uploaded)))
    missing = known.join(responses, on=KEY[:2], how="anti").select(KEY)
    if missing.is_empty():
        return missing
    reviewers = list_pseudonyms(server, dataset.workspace_id)
    records = find_records(server, dataset, missing["record_id"].unique().sort().to_list())

    def is_gone(record_id: str, reviewer: str, answered_at: datetime) -> bool:
        record = records.get(record_id)
        if record is None or reviewer not in reviewers or parse_utc(record["inserted_at"]) > answered_at:
            return False
        # Asked for again by its id: while pages are read, what is taken back can move a record past them.
        return all(response["reviewer"] != reviewer for response in read_responses(record))

    gone = missing.filter(pl.Series([is_gone(*row) for row in missing.iter_rows()]))
    if kept := missing.height - gone.height:
        log.info("dataset '%s': %d answers of deleted records or reviewers are kept", dataset.name, kept)
    return gone.with_columns(answered_at=pl.lit(None, gone.schema["answered_at"]))


def read_pulled(data: Path, name: str) -> dict[str, dict[str, Any]]:
    """Id of a dataset -> its state at the last pull, and responses by status; none without the answers themselves."""
    path = review_folder(data, name) / PULLED
    if not path.exists() or not (path.parent / ANSWERS).exists():
        return {}
    try:
        found: dict[str, dict[str, Any]] = read_record(path, "datasets")["datasets"]
    except Damaged as error:
        log.warning("%s; everything is pulled again", error.found)
        return {}
    return found
