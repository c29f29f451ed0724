"""Recipe of a mix: its sources and how much of each is taken, as the file `recipe.toml` holds it.

name = "v1"
ratio = 0.5

[[source]]
build = "uf"
where = "margin > 0.5 and chosen_chars < 4000"

[[source]]
build = "sft"
count = 500
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

from curate.config import MixConfig
from curate.files import nearest_hint, read_toml
from schemas.errors import UserError
from schemas.ids import digest

Mode = Literal["add", "replace"]
Order = Literal["shuffled", "preserved"]
STRATA = ("length", "source")


@dataclass(frozen=True)
class Source:
    """One build of a mix and what is taken of it: first `where`, then `cap`, then `share` or `count`.

    Which pairs these are depends on the seed and on their ids alone, not on the other sources.
    """

    build: str
    share: float
    """Share of the pairs that are left by then, rounded to whole pairs; 1 where `count` says how many."""
    count: int | None = None
    """Pairs, exactly. What another source has too, or is like a held-out pair, is left out after that."""
    cap: int | None = None
    """Most pairs of one prompt group."""
    where: str = ""
    """SQL condition that a pair meets, over the columns of `curate.mix.where`."""
    order: Order = "shuffled"
    """`preserved`: its pairs come in the order of the build, at random places among those of the other sources."""


@dataclass(frozen=True)
class Recipe:
    """The sources, seed and split of a mix."""

    name: str
    seed: int
    heldout_share: float
    sources: tuple[Source, ...]
    min_verdicts: int = 0
    """Reviewers who judged each pair, at the least."""
    ratio: float | None = None
    """Synthetic pairs to a real one, of the training rows."""
    mode: Mode = "add"
    """How the ratio is reached. `add`: all real pairs stay, and at most `ratio` synthetic ones come to each.
    `replace`: there are `rows` pairs, of which synthetic ones take the place of real ones."""
    rows: int | None = None
    """Training rows of `replace`; by default as many as there are real ones."""
    balance: tuple[str, ...] = ()
    """Strata of training rows of which equally many are taken: all are cut to the smallest. `source`; and `length`,
    that of the chosen response. Of both, each combination that has rows is a stratum."""

    def to_toml(self) -> str:
        own = "".join(toml_line(field, self) for field in fields(self) if field.name != "sources")
        return own + "".join(
            "\n[[source]]\n" + "".join(toml_line(field, source) for field in fields(source) if is_told(field, source))
            for source in self.sources
        )

    def sha256(self) -> str:
        """The recipe in the lock. A field at its default does not enter, so that a new field changes no digest."""
        return digest({**told_fields(self), "sources": [told_fields(source) for source in self.sources]})


def told_fields(value: Any) -> dict[str, Any]:
    """The fields of a recipe or source that have no default or another value."""
    return {field.name: told for field in fields(value) if (told := getattr(value, field.name)) != field.default}


def is_told(field: Field[Any], source: Source) -> bool:
    """Whether a field stands in the file: of share and count only the one that counts."""
    return field.name != "share" or source.count is None


def toml_line(field: Field[Any], value: Any) -> str:
    """The line of a field, none where it is at its default."""
    told = getattr(value, field.name)
    return "" if told == field.default else f"{field.name} = {toml_value(told)}\n"


def toml_value(value: str | float | tuple[str, ...]) -> str:
    """A value as TOML: texts have the escapes of JSON, and one more."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def parse_source(text: str) -> Source:
    """`NAME`, `NAME:SHARE` with the share also in percent, or `NAME:COUNT` with a whole number above 1."""
    name, colon, amount = (part.strip() for part in text.partition(":"))
    try:
        if amount.isascii() and amount.isdigit() and int(amount) > 1:
            return Source(name, 1.0, int(amount))
        # As a fraction, so that 33.3% is the very number that 0.333 is.
        percent = float(Fraction(amount.removesuffix("%")) / 100) if amount.endswith("%") else None
        return Source(name, percent if percent is not None else float(amount) if colon else 1.0)
    except ValueError as error:
        raise UserError(
            f"--add {text}: '{amount}' is not a number; write BUILD:SHARE, for example sft:0.5 or sft:50%, or "
            "BUILD:COUNT, for example sft:500"
        ) from error


def parse_ratio(value: Any) -> float:
    """Synthetic pairs to a real one, from a number or from `1:3`. Raises ValueError."""
    if isinstance(value, str) and ":" in value:
        synthetic, real = (Fraction(part.strip()) for part in value.split(":", 1))
        return float(synthetic / real) if real else float("inf")
    return float(value)


def check_recipe(recipe: Recipe, where: str) -> None:
    """Refuse an invalid recipe; `where` names the flags or the file."""
    names = [source.build for source in recipe.sources]
    if not names:
        raise UserError(f"{where}: mix '{recipe.name}' has no source")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{where}: source {twice} is given twice; one share is enough")
    if not 0 <= recipe.heldout_share < 1:
        raise UserError(f"{where}: heldout_share {recipe.heldout_share:g} is outside 0 to 1")
    if recipe.min_verdicts < 0:
        raise UserError(f"{where}: min_verdicts {recipe.min_verdicts} is negative; give 1 or more, or leave it out")
    for source in recipe.sources:
        check_source(source, where)
    check_proportions(recipe, where)


def check_source(source: Source, where: str) -> None:
    if not 0 < source.share <= 1:
        raise UserError(f"{where}: the share of {source.build} is {source.share:g}; it must be above 0 and at most 1")
    if source.count is not None and source.share != 1:
        raise UserError(f"{where}: source {source.build} has a share and a count; give one of them")
    for name in ("count", "cap"):
        if (number := getattr(source, name)) is not None and number < 1:
            raise UserError(f"{where}: the {name} of {source.build} is {number}; give 1 or more")
    if source.order not in get_args(Order):
        raise UserError(f"{where}: the order of {source.build} is '{source.order}'; it is shuffled or preserved")


def check_proportions(recipe: Recipe, where: str) -> None:
    """Refuse what cannot be meant of ratio, mode, rows and balance."""
    if recipe.ratio is not None and not 0 < recipe.ratio < float("inf"):
        raise UserError(f"{where}: ratio {recipe.ratio:g} is no number above 0; give synthetic pairs to a real one")
    if recipe.mode not in get_args(Mode):
        raise UserError(f"{where}: mode '{recipe.mode}' is not one; it is add or replace")
    if recipe.mode == "replace" and recipe.ratio is None:
        raise UserError(f"{where}: mode replace needs a ratio of synthetic to real pairs")
    if recipe.rows is not None and recipe.mode != "replace":
        raise UserError(f"{where}: rows belongs to mode replace; in mode add all real pairs stay")
    if recipe.rows is not None and recipe.rows < 1:
        raise UserError(f"{where}: rows {recipe.rows} is under 1")
    if wrong := next((stratum for stratum in recipe.balance if stratum not in STRATA), None):
        raise UserError(f"{where}: balance '{wrong}' is not one; it is {' or '.join(STRATA)}")
    if recipe.balance and recipe.ratio is not None:
        raise UserError(f"{where}: ratio and balance both say how many pairs there are of a kind; give one of them")


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def read_whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def read_number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def read_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return tuple(map(read_text, value))


def read_sources(value: Any) -> tuple[Source, ...]:
    if not isinstance(value, list) or not all(isinstance(source, dict) for source in value):
        raise TypeError("source is no [[source]]")
    return tuple(Source(**{"share": 1.0, **read_fields(source, Source, SOURCE_FIELDS)}) for source in value)


Reader = Callable[[Any], Any]
SOURCE_FIELDS: dict[str, Reader] = {
    **{"build": read_text, "share": read_number, "count": read_whole, "cap": read_whole},
    **{"where": read_text, "order": read_text},
}
RECIPE_FIELDS: dict[str, Reader] = {
    **{"name": read_text, "seed": read_whole, "heldout_share": read_number, "source": read_sources},
    **{"min_verdicts": read_whole, "ratio": parse_ratio, "mode": read_text, "rows": read_whole},
    "balance": lambda value: tuple(sorted(set(read_texts(value)))),
}


def read_recipe(path: Path, name: str = "") -> Recipe:
    """The recipe of a TOML file; `name` is its name where the file has none."""
    value = read_toml(path)
    try:
        told = read_fields(value, Recipe, RECIPE_FIELDS)
        sources = told.pop("source")
        usual = MixConfig(name=name)
        given = {"name": name, "seed": usual.seed, "heldout_share": usual.heldout_share}
        recipe = Recipe(**{**given, **told}, sources=sources)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        wrong = f"{error} is missing" if isinstance(error, KeyError) else error
        known = f"{', '.join(name for name in RECIPE_FIELDS if name != 'source')} and [[source]] with "
        raise UserError(f"{path} is not a recipe ({wrong}); it holds {known}{', '.join(SOURCE_FIELDS)}") from error
    check_recipe(recipe, str(path))
    return recipe


def read_fields(value: Mapping[str, Any], kind: type, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The fields of a table of TOML. Raises KeyError for one that is missing, ValueError for one that is unknown."""
    if unknown := next((name for name in value if name not in readers), None):
        raise ValueError(f"'{unknown}' is unknown{nearest_hint(unknown, list(readers))}")
    needed = {"build"} if kind is Source else {"source"}
    if missing := next((name for name in needed if name not in value), None):
        raise KeyError(missing)
    found = {}
    for name, told in value.items():
        try:
            found[name] = readers[name](told)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
    return found


def describe_change(written: Recipe, asked: Recipe) -> str:
    """The differences between two recipes, in one line."""
    changes = [
        f"{field.name} {old} -> {new}"
        for field in fields(Recipe)
        if field.name != "sources" and (old := getattr(written, field.name)) != (new := getattr(asked, field.name))
    ]
    if written.sources != asked.sources:
        changes.append(f"sources {format_sources(written)} -> {format_sources(asked)}")
    return "; ".join(changes)


def format_sources(recipe: Recipe) -> str:
    """The sources in one line, as `--add` takes them, with what it cannot say behind."""
    return " + ".join(map(format_source, recipe.sources))


def format_source(source: Source) -> str:
    more = [
        f" {field.name} {getattr(source, field.name)}"
        for field in fields(source)
        if field.default is not MISSING and field.name != "count" and getattr(source, field.name) != field.default
    ]
    return f"{source.build}:{source.share if source.count is None else source.count:g}{''.join(more)}"
