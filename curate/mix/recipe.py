"""Recipe of a mix: its builds and shares, from flags or from the file `mixes/NAME/recipe.toml`."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from curate.config import MixConfig
from curate.files import nearest_hint, read_toml
from schemas.errors import UserError
from schemas.ids import digest


@dataclass(frozen=True)
class Source:
    """One build of a mix and the share of it that is taken."""

    build: str
    share: float


@dataclass(frozen=True)
class Recipe:
    """The builds, shares, seed and split of a mix; the file `mixes/NAME/recipe.toml`."""

    name: str
    seed: int
    heldout_share: float
    sources: tuple[Source, ...]
    min_verdicts: int = 0
    """Reviewers who judged each pair, at the least."""

    def to_toml(self) -> str:
        head = f'name = "{self.name}"\nseed = {self.seed}\nheldout_share = {self.heldout_share}\n'
        if self.min_verdicts:
            head += f"min_verdicts = {self.min_verdicts}\n"
        return head + "".join(
            f'\n[[source]]\nbuild = "{source.build}"\nshare = {source.share}\n' for source in self.sources
        )

    def sha256(self) -> str:
        """The recipe in the lock; without `min_verdicts` where none are asked for."""
        told = asdict(self)
        return digest(told if self.min_verdicts else {name: told[name] for name in told if name != "min_verdicts"})


def resolve_recipe(cfg: MixConfig, path: Path) -> Recipe:
    """The recipe of the flags, else of the file; a file that differs from the flags is refused."""
    written = read_recipe(path) if path.exists() else None
    if written and written.name != cfg.name:
        raise UserError(f"{path} is the recipe of mix '{written.name}'; set its name to '{cfg.name}'")
    if not cfg.add:
        if written:
            return written
        known = sorted(file.parent.name for file in path.parent.parent.glob(f"[!.]*/{path.name}"))
        raise UserError(
            f"no mix '{cfg.name}'{nearest_hint(cfg.name, known)}; name its sources with --add BUILD[:SHARE]"
        )
    asked = Recipe(
        cfg.name, cfg.seed, cfg.heldout_share, tuple(parse_source(text) for text in cfg.add), required_verdicts(cfg)
    )
    check_recipe(asked, "the flags")
    if written and written != asked:
        changed = describe_change(written, asked)
        raise UserError(f"mix '{cfg.name}' is published and stays as it is ({changed}); choose a new name")
    return asked


def required_verdicts(cfg: MixConfig) -> int:
    """Reviewers who must have judged a pair."""
    if cfg.min_verdicts < 0:
        raise UserError(f"--min-verdicts {cfg.min_verdicts} is negative; give 1 or more, or leave it out")
    return max(cfg.min_verdicts, int(cfg.reviewed_only))


def parse_source(text: str) -> Source:
    """`NAME` or `NAME:SHARE`, the share also in percent."""
    name, colon, share = (part.strip() for part in text.partition(":"))
    try:
        # As a fraction, so that 33.3% is the very number that 0.333 is.
        percent = float(Fraction(share.removesuffix("%")) / 100) if share.endswith("%") else None
        return Source(name, percent if percent is not None else float(share) if colon else 1.0)
    except ValueError as error:
        raise UserError(
            f"--add {text}: '{share}' is not a number; write BUILD:SHARE, for example sft:0.5 or sft:50%"
        ) from error


def check_recipe(recipe: Recipe, where: str) -> None:
    """Refuse an invalid recipe; `where` names the flags or the file."""
    names = [source.build for source in recipe.sources]
    if not names:
        raise UserError(f"{where}: mix '{recipe.name}' has no source")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{where}: source {twice} is given twice; one share is enough")
    if wrong := next((source for source in recipe.sources if not 0 < source.share <= 1), None):
        raise UserError(f"{where}: the share of {wrong.build} is {wrong.share:g}; it lies above 0 and is at most 1")
    if not 0 <= recipe.heldout_share < 1:
        raise UserError(f"{where}: heldout_share {recipe.heldout_share:g} is outside 0 to 1")


def read_recipe(path: Path) -> Recipe:
    value = read_toml(path)
    try:
        sources = tuple(Source(str(source["build"]), float(source["share"])) for source in value["source"])
        recipe = Recipe(
            str(value["name"]),
            int(value["seed"]),
            float(value["heldout_share"]),
            sources,
            int(value.get("min_verdicts", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        fields = "name, seed, heldout_share and [[source]] with build, share"
        wrong = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is not a recipe ({wrong}); it holds {fields}") from error
    check_recipe(recipe, str(path))
    return recipe


def describe_change(written: Recipe, asked: Recipe) -> str:
    """The differences between two recipes, in one line."""
    changes = [
        f"{field} {old} -> {new}"
        for field, old, new in (
            ("seed", written.seed, asked.seed),
            ("heldout_share", written.heldout_share, asked.heldout_share),
            ("sources", format_sources(written), format_sources(asked)),
            ("min_verdicts", written.min_verdicts, asked.min_verdicts),
        )
        if old != new
    ]
    return "; ".join(changes)


def format_sources(recipe: Recipe) -> str:
    return " + ".join(f"{source.build}:{source.share:g}" for source in recipe.sources)
