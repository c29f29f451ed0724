"""Make damaged tables of a build again, from its source and from recorded answers alone: no model is asked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from curate.files import Damaged
from curate.models.call_options import generator_options
from curate.models.resolve import LazyModel, resolve_generator
from curate.pipeline.build import make_rounds, recorded_config
from curate.pipeline.source import source_rows
from curate.pipeline.stage import Models
from curate.store.session import open_session
from curate.store.workspace import BuildRecord, Workspace
from schemas.calls import Backend
from schemas.errors import UserError

Result = TypeVar("Result")


def mended(workspace: Workspace, builds: Sequence[str], work: Callable[[], Result]) -> Result:
    """The result of `work`; where it finds a damaged table, those of the `builds` are made again first.

    Raises Damaged, with what to do instead, where they cannot be.
    """
    try:
        return work()
    except Damaged as error:
        if not error.found.startswith(str(workspace.tables)):
            raise
        again = f"restore it, or give the curate build command of {' and '.join(builds)} again"
        try:
            for name in builds:
                remake_tables(workspace, workspace.read_build(name))
        except UserError as cause:
            raise Damaged(f"{error.found}, and cannot be made again here ({cause})", again) from error
    try:
        return work()
    except Damaged as error:
        if error.found.startswith(str(workspace.tables)):
            raise Damaged(f"{error.found}, and the settings of its build make another table now", again) from error
        raise


def remake_tables(workspace: Workspace, record: BuildRecord) -> None:
    """Go through all stages of a build: what is whole stays, and what is not is made again."""
    built = recorded_config(record, workspace.data)
    generator = None
    if record.summary["generator"]:
        options = generator_options(built)
        generator = resolve_generator(record.summary["generator"], workspace.data, options=options)
        generator = replace(generator, load=recorded_model(generator.model, generator.digest).load)
    scorer = recorded_model(**record.scorer) if record.scorer else None
    with open_session(workspace.data) as session:
        make_rounds(built, source_rows(built), Models(generator, scorer, record.summary["noise"]), session)


def recorded_model(model: str, digest: str, **asks: Any) -> LazyModel:
    """A model as a record names it, which is all that its recorded answers need."""

    def load() -> Backend:
        raise UserError(f"an answer of {model} is not in the ledger")

    return LazyModel(model, digest, load, **asks)
