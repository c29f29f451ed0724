"""Find the recipe of a mix: from flags, from the file of `--recipe`, or from the folder of the mix."""

from dataclasses import MISSING, fields, replace
from typing import Any

from curate.config import MixConfig
from curate.files import nearest_hint
from curate.mix.foreign_recipe import FOREIGN, read_foreign
from curate.mix.recipe import (
    Recipe,
    Source,
    check_recipe,
    describe_change,
    parse_ratio,
    parse_source,
    read_recipe,
)
from curate.store.mixes import RECIPE
from curate.store.workspace import Workspace
from schemas.errors import UserError


def resolve_recipe(cfg: MixConfig, workspace: Workspace) -> Recipe:
    """The recipe that a command asks for. One that differs from the recipe in the folder of the mix is refused."""
    path = workspace.recipe(cfg.name)
    written = read_recipe(path, cfg.name) if path.exists() else None
    if written and written.name != cfg.name:
        raise UserError(f"{path} is the recipe of mix '{written.name}'; set its name to '{cfg.name}'")
    asked = told_recipe(cfg, workspace)
    if asked is None:
        if written is None:
            known = sorted(found.parent.name for found in workspace.mixes.glob(f"[!.]*/{RECIPE}"))
            raise UserError(
                f"no mix '{cfg.name}'{nearest_hint(cfg.name, known)}; name its sources with --add BUILD[:SHARE], or "
                "give a --recipe"
            )
        refuse_lost_flags(cfg, written, str(path))
        return written
    if written and written != asked:
        changed = describe_change(written, asked)
        if cfg.name in workspace.mix_names():
            raise UserError(f"mix '{cfg.name}' is published and stays as it is ({changed}); choose a new name")
        raise UserError(f"{path} is another recipe ({changed}); give curate mix {cfg.name} alone, or remove the file")
    return asked


def told_recipe(cfg: MixConfig, workspace: Workspace) -> Recipe | None:
    """The recipe of the flags or of the file that they name, if any."""
    if cfg.recipe is None:
        return from_flags(cfg, tuple(map(parse_source, cfg.add)), "the flags") if cfg.add else None
    if cfg.add:
        raise UserError("--add and --recipe both name the sources of the mix; give one of them")
    if not cfg.recipe.is_file():
        raise UserError(f"--recipe {cfg.recipe}: no such file")
    if cfg.recipe.suffix.lower() in FOREIGN:
        foreign = read_foreign(cfg.recipe, workspace)
        share = cfg.heldout_share if foreign.heldout_share is None else foreign.heldout_share
        if cfg.heldout_share not in (MixConfig(name=cfg.name).heldout_share, share):
            raise UserError(f"--heldout-share is another one than test_split_size in {cfg.recipe}; give one of them")
        return from_flags(replace(cfg, heldout_share=share), foreign.sources, str(cfg.recipe))
    told = replace(read_recipe(cfg.recipe, cfg.name), name=cfg.name)
    refuse_lost_flags(cfg, told, str(cfg.recipe))
    return told


def from_flags(cfg: MixConfig, sources: tuple[Source, ...], where: str) -> Recipe:
    """The recipe of these sources and the flags. `--where` and `--cap` hold for each source."""
    recipe = Recipe(
        name=cfg.name,
        seed=cfg.seed,
        heldout_share=cfg.heldout_share,
        sources=tuple(replace(source, cap=cfg.cap, where=cfg.where) for source in sources),
        **flag_values(cfg),
    )
    check_recipe(recipe, where)
    return recipe


def flag_values(cfg: MixConfig) -> dict[str, Any]:
    """The fields of a recipe that flags set for the whole mix."""
    try:
        ratio = parse_ratio(cfg.ratio) if cfg.ratio else None
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"--ratio {cfg.ratio} is neither a number nor SYNTHETIC:REAL, for example 0.25 or 1:4"
        ) from error
    return {
        "min_verdicts": max(cfg.min_verdicts, int(cfg.reviewed_only)),
        "ratio": ratio,
        "mode": cfg.mode,
        "rows": cfg.rows,
        "balance": tuple(sorted(set(cfg.balance))),
    }


def refuse_lost_flags(cfg: MixConfig, recipe: Recipe, where: str) -> None:
    """Raises UserError for a flag that says other than the recipe file, which is what counts."""
    defaults = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
    usual = MixConfig(name=cfg.name)
    defaults |= {"seed": usual.seed, "heldout_share": usual.heldout_share}
    for name, given in {"seed": cfg.seed, "heldout_share": cfg.heldout_share, **flag_values(cfg)}.items():
        if given not in (defaults[name], getattr(recipe, name)):
            raise UserError(f"--{name.replace('_', '-')} is another one than in {where}, which counts; change it there")
    for name in ("where", "cap"):
        given = getattr(cfg, name)
        if given and any(getattr(source, name) != given for source in recipe.sources):
            raise UserError(f"--{name} does not go with the recipe {where}; write it to each [[source]] there")
