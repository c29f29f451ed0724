"""Read pairs of a file or a hub dataset, whatever format its rows have.

read_pairs(rows_config("pairs.jsonl", None, 30))
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from curate.sources.fields import Columns, Fields, number
from curate.sources.formats import FORMATS, Format, find_format, read_row
from curate.sources.licenses import row_license
from curate.sources.messages import UnusableRow, check_calls
from curate.sources.mix_folder import KEPT, find_mix_folder
from curate.sources.pair_formats import Ready
from curate.sources.preferences import describe_preference
from curate.sources.response_formats import Responses
from curate.sources.rows import BadRow, Row, RowsConfig, first_rows, none_usable, raw_rows, raw_text, shuffle_rows
from curate.store.store import Part, dropped_row, json_of, make_part
from schemas.errors import UserError
from schemas.ids import Occurrences, pair_key, prompt_group, prompt_key
from schemas.licenses import join_licenses
from schemas.names import FLAWS, UnpairedReason
from schemas.stages import StageName
from schemas.tables import Pair, RecordedVerdict

log = logging.getLogger(__name__)

STAGE = StageName.READ_PAIRS
EXAMPLE = '{"prompt": "Why is the sky blue?", "chosen": "Air scatters blue light.", "rejected": "It mirrors the sea."}'
PAIRS_PER_PART = 4096
"""More than prompts, for nothing has to be generated: a million pairs are a few hundred files."""


class Answered(NamedTuple):
    """Responses to one prompt of a source, of which pairs are made."""

    prompt_id: str
    found: Responses


class Imported(NamedTuple):
    """A ready pair of a source and its ids."""

    pair_id: str
    prompt_id: str
    ready: Ready
    flaw: Any
    kept: Row
    """Columns of the pair as the row has them; of a published mix alone."""


class Unusable(NamedTuple):
    """A row that gives nothing."""

    reason: UnpairedReason
    row: Row | BadRow


PairResponses = Callable[[list[Answered]], Part]
"""Makes pairs of responses with scores, by the policies of a build."""


@dataclass
class Reader:
    """Reads the rows of a source one after another, with ids that are unique among them."""

    cfg: RowsConfig
    columns: Columns = field(default_factory=Columns)
    decides: str = ""
    """Which columns decide between two responses, in words."""
    _kept: tuple[str, ...] = ()
    _pairs: Occurrences = field(default_factory=Occurrences)
    _prompts: Occurrences = field(default_factory=Occurrences)

    def __post_init__(self) -> None:
        self._kept = KEPT if find_mix_folder(self.cfg.path) else ()

    def read(self, form: Format) -> Iterator[Imported | Answered | Unusable]:
        """What every row gives."""
        return self._grouped(form) if form.gives == "response" else self._rows(form)

    def log_columns(self) -> None:
        """Name the columns that decide between two responses, and those that nothing was taken from."""
        if self.decides:
            log.info("%s: of two responses %s", self.cfg.path, self.decides)
        self.columns.log_unused(self.cfg.path)

    def _rows(self, form: Format) -> Iterator[Imported | Answered | Unusable]:
        for row in raw_rows(self.cfg):
            try:
                found = self._read_row(row, form)
            except UnusableRow as error:
                yield Unusable(error.reason, row)
                continue
            prompt_id = self._prompts.unique(prompt_key(found.messages))
            if isinstance(found, Responses):
                yield Answered(prompt_id, found)
            else:
                pair_id = self._pairs.unique(pair_key(found.messages, found.chosen, found.rejected))
                assert isinstance(row, dict)
                kept = {name: row[name] for name in self._kept}
                yield Imported(pair_id, prompt_id, found, row.get("flaw"), kept)

    def _grouped(self, form: Format) -> Iterator[Answered | Unusable]:
        """The responses to each prompt together, prompts in the order of the seeded shuffle.

        The rows are read in the order of the file, for of equal scores the first counts.
        """
        groups: dict[str, list[tuple[Row, Responses]]] = {}
        for row in raw_rows(replace(self.cfg, seed=None, num_rows=None)):
            try:
                found = self._read_row(row, form)
            except UnusableRow as error:
                yield Unusable(error.reason, row)
                continue
            assert isinstance(row, dict) and isinstance(found, Responses)
            groups.setdefault(prompt_key(found.messages), []).append((row, found))
        keys = list(groups)
        for place in shuffle_rows(self.cfg, len(keys)) if keys else ():
            group = groups.pop(keys[place])
            scores = [found.scores[0] for _, found in group]
            if len(set(scores)) < 2:
                yield from (Unusable("unpaired", row) for row, _ in group)
            else:
                together = group[0][1]._replace(
                    responses=[found.responses[0] for _, found in group],
                    scores=scores,
                    license=join_licenses(*(found.license for _, found in group)),
                )
                yield Answered(keys[place], together)

    def _read_row(self, row: Row | BadRow, form: Format) -> Ready | Responses:
        """What a row gives. Raises UnusableRow for one of another kind than the first."""
        if isinstance(row, BadRow):
            raise UnusableRow("unreadable_row")
        fields = Fields(row, self.cfg.columns)
        for name in ("flaw", *self._kept):
            fields.note(name)
        try:
            found_form, found = read_row(fields, self.cfg.preference)
            license = row_license(fields, self.cfg)
        finally:
            self.columns.add(fields)
        if found_form.gives != form.gives:
            raise UnusableRow("unreadable_row")
        if found_form.name == "two" and not self.decides:
            self.decides = describe_preference(fields, self.cfg.preference)
        return found._replace(messages=check_calls(found.messages), license=license)


def read_pairs(cfg: RowsConfig, pair_responses: PairResponses | None = None) -> Iterator[Part]:
    """Parts of `PAIRS_PER_PART` pairs, the last one shorter; unusable rows come with the pairs they lie among.

    `pair_responses` makes the pairs of rows that hold several responses to a prompt; without it they are refused.
    """
    form = find_source_format(cfg)
    if form.gives != "pair" and pair_responses is None:
        raise UserError(
            f"{cfg.path} holds responses with scores, no pairs; `curate build --source` makes pairs of them"
        )
    is_any_usable = False
    items: list[Imported | Answered] = []
    dropped: list[dict[str, Any]] = []
    reader = Reader(cfg)
    for item in reader.read(form):
        if isinstance(item, Unusable):
            dropped.append(dropped_row(STAGE, item.reason, raw_text(item.row)))
        else:
            items.append(item)
        if len(items) == PAIRS_PER_PART:
            yield make_pair_part(items, dropped, pair_responses)
            is_any_usable, items, dropped = True, [], []
    reader.log_columns()
    if not items and not is_any_usable:
        raise none_usable(cfg, len(dropped), dropped, EXAMPLE)
    if items or dropped:
        yield make_pair_part(items, dropped, pair_responses)


def make_pair_part(
    items: list[Imported | Answered], dropped: list[dict[str, Any]], pair_responses: PairResponses | None
) -> Part:
    """The pairs of these items, which are all of one kind."""
    ready = [pair_row(item) for item in items if isinstance(item, Imported)]
    part = make_part(Pair, ready, dropped)
    answered = [item for item in items if isinstance(item, Answered)]
    if not answered or not pair_responses:
        return part
    made = pair_responses(answered)
    return Part(part.rows.vstack(made.rows), part.dropped.vstack(made.dropped))


def find_source_format(cfg: RowsConfig) -> Format:
    """The format that the first rows of a source show.

    Raises UserError where they show none, and for a column asked for that none of them has.
    """
    rows = first_rows(cfg)
    records = [row for row in rows if isinstance(row, dict)]
    columns = list(dict.fromkeys(column for row in records for column in row))
    if not columns:
        raise none_usable(cfg, len(rows), [{"raw": json_of(raw_text(rows[0]))}], EXAMPLE)
    if cfg.preference and not any(has_name(row, cfg.preference) for row in records):
        raise UserError(f"--preference {cfg.preference}: {cfg.path} has no such column; found {', '.join(columns)}")
    for row in records:
        if form := find_format(Fields(row, cfg.columns), cfg.preference):
            return form
    expected = "; ".join(form.columns for form in FORMATS)
    raise UserError(
        f"{cfg.path} holds no pairs of a known format: found {', '.join(columns)}; expected {expected}; name other "
        "columns with --columns prompt=COLUMN,chosen=COLUMN,rejected=COLUMN"
    )


def has_name(row: Row, name: str) -> bool:
    """True for a column, or for a field of the objects in one."""
    inside = [items[0] for items in row.values() if isinstance(items, list) and items and isinstance(items[0], dict)]
    return any(name in Fields(fields) for fields in (row, *inside))


def read_verdicts(cfg: RowsConfig) -> Iterator[Part]:
    """Every single vote on the pairs that `read_pairs` gives, in parts of as many pairs."""
    rows: list[dict[str, Any]] = []
    pairs = 0
    for item in Reader(cfg).read(find_source_format(cfg)):
        if isinstance(item, Imported):
            rows += (
                {
                    "pair_id": item.pair_id,
                    "judge": judge,
                    "order": "chosen_first" if is_first else "rejected_first",
                    "verdict": "tie" if strength == 0 else "chosen" if strength > 0 else "rejected",
                }
                for judge, is_first, strength in item.ready.votes
            )
            pairs += 1
            if pairs % PAIRS_PER_PART == 0:
                yield make_part(RecordedVerdict, rows)
                rows = []
    yield make_part(RecordedVerdict, rows)


def pair_row(item: Imported) -> dict[str, Any]:
    """A row of `Pair` from a ready pair."""
    ready = item.ready
    given = ready.scores or (None, None)
    scores = tuple(number(score) for score in given)
    # two nulls are a pair that nobody scored, as an export of unscored pairs writes them
    is_scored = given != (None, None)
    return {
        "pair_id": item.pair_id,
        "prompt_id": item.prompt_id,
        "prompt_group": prompt_group(ready.messages),
        "messages": ready.messages,
        "chosen": ready.chosen,
        "rejected": ready.rejected,
        "score_chosen": scores[0],
        "score_rejected": scores[1],
        "failed_score": is_scored and None in scores,
        "scorer": "imported" if is_scored else None,
        "origin": "real",
        "flaw": item.flaw if item.flaw in FLAWS else None,
        "tools": ready.tools,
        "license": ready.license,
        "is_heldout": False,
        **item.kept,
    }
