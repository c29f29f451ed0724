"""Read rows of a dataset of the hub, or of a folder that lies below the working directory like one."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from curate.flags import without_secrets
from curate.models.hub import asking_hub, check_endpoint, one_line
from curate.sources.dataset_folder import choose_split
from curate.sources.file_source import Order, Rows
from schemas.errors import UserError

HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:/(?P<subset>[^@:]+))?(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?"
)
EXPECTED = "owner/name[/subset][@revision][:split]"


@dataclass(frozen=True)
class HubSource:
    """One split of a dataset."""

    name: str
    """As `EXPECTED`, with its split."""
    dataset: Any

    def digest(self) -> str:
        """The fingerprint that the datasets library gives it."""
        return str(self.dataset._fingerprint)

    def rows(self) -> Rows:
        """All rows as they lie, read as they are asked for."""
        return self._rows_at(range(len(self.dataset)))

    def shuffled(self, order: Order) -> Rows:
        """The rows in another order; the library has them in files that are read from anywhere."""
        return self._rows_at(order(len(self.dataset)))

    def _rows_at(self, positions: Iterable[int]) -> Rows:
        # imported where it is needed, for it takes a while
        from curate.sources.arrow_rows import batch_rows, rows_at_once

        positions = list(positions)
        # as Arrow, so that images and sounds stay the bytes they are
        tables = self.dataset.with_format("arrow")
        step = rows_at_once(self.dataset.data.nbytes, self.dataset.data.num_rows)
        for start in range(0, len(positions), step):
            for batch in tables[positions[start : start + step]].to_batches():
                yield from batch_rows(batch)


def find_dataset(spec: str) -> HubSource | None:
    """The split of a dataset that is named as `EXPECTED`; None where the name is none of a dataset."""
    if not (match := HUB_ID.fullmatch(spec)):
        return None
    repo, subset, revision, split = match.groups()
    name = spec.removesuffix(f":{split}")
    with told_of_hub(spec):
        builder = find_builder(repo, subset, revision)
        builder.download_and_prepare()
        # a part of a split, such as train[:100], is the library's to find
        if not split or not re.search(r"[^\w.]", split):
            split = choose_split(name, list(builder.info.splits), without_secrets(split or ""))
        return HubSource(f"{name}:{split}", builder.as_dataset(split=split))


def find_builder(repo: str, subset: str | None, revision: str | None) -> Any:
    """What prepares a dataset; a subset is the name of a configuration or else a folder."""
    import datasets

    try:
        return datasets.load_dataset_builder(repo, subset, revision=revision)
    except ValueError:
        if subset is None:
            raise
        with suppress(datasets.exceptions.DatasetsError, OSError, ValueError):
            return datasets.load_dataset_builder(repo, data_dir=subset, revision=revision)
        raise


@contextmanager
def told_of_hub(spec: str) -> Iterator[None]:
    """Turn errors of the hub and of the datasets library into a UserError."""
    check_endpoint()
    import datasets

    shown = without_secrets(spec)
    missing = f"no file {shown}, and no dataset {shown} could be loaded"
    with asking_hub(missing, datasets.exceptions.DatasetsError):
        try:
            yield
        except datasets.exceptions.DatasetGenerationError as error:
            if error.__cause__ is None:
                raise
            raise UserError(f"{missing}: its files cannot be read ({one_line(error.__cause__)})") from error
        except ValueError as error:
            said = str(error)
            if not said.startswith("Config name is missing"):
                raise
            subsets = ", ".join(re.findall(r"'([^']+)'", said.partition("\nExample")[0]))
            sentence = f"{missing}: it has several subsets; name one of {subsets} as owner/name/SUBSET"
            raise UserError(sentence) from error
