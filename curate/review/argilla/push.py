"""Send records for review: from chosen rows to datasets in Argilla.

push(PushConfig(name="sft", records=200))
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import Damaged, damaged_file
from curate.review.argilla.client import ArgillaClient, connect
from curate.review.argilla.dataset import Dataset, draft_dataset, open_dataset, workspace_id
from curate.review.argilla.records import find_records, has_cut_text, send_records
from curate.review.collected import count_each
from curate.review.config import PushConfig
from curate.review.select import choose_records
from curate.screen.human import current_answers
from curate.store.reviews import (
    UPLOADED,
    Review,
    begun_review,
    file_remedy,
    lock_review,
    read_answers,
    read_asked,
    read_file,
    read_review,
    review_folder,
    save_review,
    write_file,
)
from schemas.errors import UserError
from schemas.manifest import FORMAT
from schemas.names import SAMPLERS

log = logging.getLogger(__name__)

OVERLAP_REVIEWERS = 2


@dataclass(frozen=True)
class Pushed:
    """Result of a push: the records sent, and those on the server now."""

    name: str
    url: str
    datasets: dict[str, int]
    """Name -> records it holds."""
    added: int
    already_there: int
    """Records that an interrupted push had brought there."""
    answered: int
    """Records that were not sent because they have all their answers."""
    by_sampler: dict[str, int]
    """Of all records of the review."""
    overlap: int
    cut: int
    """Records added with a text that is shortened for display."""
    is_resumed: bool
    """Nothing new was chosen: an earlier push had not come to its end."""

    def summary(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "records": sum(self.datasets.values()),
            "added": self.added,
            "already_there": self.already_there,
            "by_sampler": self.by_sampler,
            "gold": self.by_sampler["gold"],
            "overlap": self.overlap,
            "datasets": self.datasets,
            "url": self.url,
            "cut": self.cut,
            "resumed": self.is_resumed,
        }

    def lines(self) -> list[str]:
        samplers = ", ".join(f"{count} {name}" for name, count in self.by_sampler.items() if count)
        lines = [f"review '{self.name}' at {self.url}: {self.added} records added"]
        if self.is_resumed:
            lines[0] += f" and {self.already_there} found there, which ends an earlier push; give it again for more"
        lines += [f"dataset '{name}': {records} records" for name, records in self.datasets.items()]
        lines.append(f"by sampler: {samplers}; {self.overlap} for two reviewers")
        if self.answered:
            lines.append(f"{self.answered} records that have their answers were not sent again")
        if self.cut:
            lines.append(f"{self.cut} records hold a text that is shown shortened in the middle")
        return [*lines, f"when reviewers have answered: curate review pull {self.name}"]


def push(cfg: PushConfig) -> Pushed:
    """Choose records and put them on the server; where an earlier push was interrupted, only finish that one.

    Raises UserError for what `connect`, `choose_records` and `open_dataset` refuse, and where the network is lost.
    """
    with connect(cfg) as server, lock_review(cfg.data, cfg.name):
        waiting = 0
        if review := read_review(cfg.data, cfg.name):
            restore_uploaded(server, cfg, review)
            there = records_there(server, cfg, review)
            asked = read_asked(cfg.data, cfg.name)
            waiting = drop_judged(asked.filter(~pl.col("record_id").is_in(there)), cfg, review).height
        if waiting:
            log.info("review '%s': %d records of an earlier push are still to be sent", cfg.name, waiting)
        else:
            asked = choose_records(cfg, cfg.name)
        return upload_records(server, begun_review(cfg.data, cfg.name), asked, cfg, is_resumed=waiting > 0)


def restore_uploaded(server: ArgillaClient, cfg: PushConfig, review: Review) -> None:
    """Where the list of what the server holds is damaged, look there for every record of the review."""
    try:
        read_uploaded(cfg.data, cfg.name)
    except Damaged as error:
        record_ids = read_asked(cfg.data, cfg.name)["record_id"].to_list()
        datasets = [open_dataset(server, name, known["id"]) for name, known in review.datasets.items()]
        found = {dataset.id: set(find_records(server, dataset, record_ids)) for dataset in datasets if dataset}
        save_uploaded(cfg.data, cfg.name, found)
        log.warning("%s; made again from the server", error.found)


def records_there(server: ArgillaClient, cfg: PushConfig, review: Review) -> list[str]:
    """Records known to be in the datasets that are still there."""
    uploaded = read_uploaded(cfg.data, cfg.name)
    datasets = [open_dataset(server, name, known["id"]) for name, known in review.datasets.items()]
    return [record_id for dataset in datasets if dataset for record_id in uploaded.get(dataset.id, ())]


def drop_judged(rows: pl.DataFrame, cfg: PushConfig, review: Review) -> pl.DataFrame:
    """The rows without those that enough reviewers have judged, in a file or in a dataset that was deleted since."""
    judged = current_answers(read_answers(cfg.data, cfg.name)).group_by("record_id").agg(reviewers=pl.len())
    enough = rows.join(judged, on="record_id").filter(pl.col("reviewers") >= answers_needed(review))
    return rows.join(enough, on="record_id", how="anti")


def answers_needed(review: Review) -> pl.Expr:
    """Reviewers that a record takes."""
    return pl.when("is_overlap").then(max(OVERLAP_REVIEWERS, review.min_submitted)).otherwise(review.min_submitted)


def upload_records(
    server: ArgillaClient, review: Review, asked: pl.DataFrame, cfg: PushConfig, *, is_resumed: bool
) -> Pushed:
    """Bring all rows of `asked` to the server that are not there, in datasets made as needed."""
    is_apart = pl.col("is_overlap") & (review.min_submitted < OVERLAP_REVIEWERS)
    uploaded = read_uploaded(cfg.data, cfg.name)
    datasets: dict[str, int] = {}
    added = already_there = cut = without = 0
    for name, needed, rows in (
        (review.name, review.min_submitted, asked.filter(~is_apart)),
        (f"{review.name}-overlap", OVERLAP_REVIEWERS, asked.filter(is_apart)),
    ):
        if rows.is_empty():
            continue
        review, dataset = make_dataset(server, review, name, needed, cfg)
        there = uploaded.setdefault(dataset.id, set())
        missing = rows.filter(~pl.col("record_id").is_in(list(there)))
        sending = drop_judged(missing, cfg, review)
        without += len(missing) - len(sending)
        found = find_records(server, dataset, sending["record_id"].to_list())
        there.update(found)
        already_there += len(found)
        sending = sending.filter(~pl.col("record_id").is_in(list(found)))
        for record_ids in send_records(server, dataset, sending, seed=review.seed, suggest=cfg.suggest):
            there |= record_ids
            save_uploaded(cfg.data, cfg.name, uploaded)
        save_uploaded(cfg.data, cfg.name, uploaded)
        added += len(sending)
        cut += sending.filter(has_cut_text()).height
        datasets[name] = server.get(f"/datasets/{dataset.id}/progress")["total"]
    return Pushed(
        name=review.name,
        url=server.url,
        datasets=datasets,
        added=added,
        already_there=already_there,
        answered=without,
        by_sampler=count_each(asked["sampler"], SAMPLERS),
        overlap=int(asked["is_overlap"].sum()),
        cut=cut,
        is_resumed=is_resumed,
    )


def make_dataset(
    server: ArgillaClient, review: Review, name: str, min_submitted: int, cfg: PushConfig
) -> tuple[Review, Dataset]:
    """The dataset of that name of this review, made where it is not there; the review knows it before it is open."""
    if known := review.datasets.get(name):
        if dataset := open_dataset(server, name, known["id"]):
            return review, dataset
        log.warning("dataset '%s' is not on %s any more (it was made at %s): made anew", name, server.url, known["url"])
    dataset_id = draft_dataset(server, workspace_id(server, cfg.workspace), name, min_submitted)
    review = review.with_dataset(name, server.url, dataset_id)
    save_review(cfg.data, review)
    server.put(f"/datasets/{dataset_id}/publish")
    dataset = open_dataset(server, name, dataset_id)
    if dataset is None:
        raise UserError(f"dataset '{name}' was deleted on {server.url} while it was made; give the same command again")
    return review, dataset


def read_uploaded(data: Path, name: str) -> dict[str, set[str]]:
    """Id of a dataset -> ids of the records it was seen to hold."""
    content = read_file(data, name, UPLOADED)
    try:
        found = {} if content is None else json.loads(content)["records"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_file(review_folder(data, name) / UPLOADED, error, file_remedy(data, name, UPLOADED)) from error
    return {dataset: set(records) for dataset, records in found.items()}


def save_uploaded(data: Path, name: str, uploaded: dict[str, set[str]]) -> None:
    records = {dataset: sorted(ids) for dataset, ids in sorted(uploaded.items())}
    write_file(data, name, UPLOADED, json.dumps({"format": FORMAT, "records": records}).encode())
