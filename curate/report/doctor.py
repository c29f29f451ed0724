"""Check the machine, the models, the keys and the store; each problem comes with its remedy."""

import os
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.audit.noise import margin_width, measure_noise, read_noise_record, refuse_lost_noise, save_noise
from curate.audit.probe_study import probe_scorer
from curate.config import DoctorConfig
from curate.files import cache_folder, read_record
from curate.ledger.ledger import Ledger
from curate.ledger.maintenance import check_ledger
from curate.mix.mix import check_recipe_file
from curate.models.call_options import judge_options
from curate.models.embedded import EMBEDDED, changed_files, embedded_folder, embedded_graph
from curate.models.resolve import resolve_scorer
from curate.models.reward_head import HEADS, RewardHead, head_folder
from curate.report.trained import (
    check_evaluation,
    check_features,
    check_references,
    check_run,
    check_tokens,
    refuse_damage,
)
from curate.screen.similar.embeddings import is_whole_shard
from curate.store.mixes import open_mix_folder
from curate.store.reviews import (
    PULLED,
    UPLOADED,
    begun_review,
    read_answers,
    read_asked,
    read_file,
    review_folder,
    review_names,
)
from curate.store.runs import run_folders
from curate.store.session import is_begun, open_session
from curate.store.store import Table, library_versions, load_table
from curate.store.workspace import Workspace
from schemas.calls import Backend
from schemas.errors import UserError

KEYS = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "NVIDIA_API_KEY", "PAIRWRIGHT_API_KEY", "HF_TOKEN")
GIB = 1024**3


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    is_good: bool
    found: str
    figures: dict[str, Any] | None = None
    """Counts behind the sentence, for `--json`."""


@dataclass(frozen=True)
class Checks:
    """All that was looked at."""

    checks: list[Check]

    @property
    def is_good(self) -> bool:
        return all(check.is_good for check in self.checks)

    def summary(self) -> dict[str, Any]:
        return {"good": self.is_good, "checks": [asdict(check) for check in self.checks]}

    def lines(self) -> list[str]:
        """One line a check."""
        return [f"{'ok ' if check.is_good else 'BAD'}  {check.name:20} {check.found}" for check in self.checks]


def doctor(cfg: DoctorConfig) -> Checks:
    """All checks. Embedded models are unpacked if they are not yet."""
    options = judge_options(cfg)
    scorer = resolve_scorer(cfg.scorer, cfg.data, rubric=cfg.rubric, options=options) if cfg.scorer else None
    workspace = Workspace(cfg.data)
    checks = [*check_machine(cfg.data), *check_models(), *check_keys(), *check_store(workspace)]
    return Checks([*checks, *check_scorer(cfg, scorer)] if scorer else checks)


def check_machine(data: Path) -> list[Check]:
    """Python, libraries, cores, GPU, free disk."""
    import torch

    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    place = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / GIB
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, models run on the CPU"
    return [
        Check("python", True, f"{platform.python_version()} on {platform.system()}, {os.cpu_count()} cores"),
        Check("libraries", True, versions),
        Check("gpu", True, gpu),
        Check("disk", free > 2, f"{free:.0f} GiB free for {data}"),
        Check("shell", True, "`eval` is a word of the shell itself: in a terminal type `evaluate`"),
    ]


def check_models() -> list[Check]:
    """The embedded models unpacked and unchanged, the reward heads readable."""
    models = [run_check(alias, check_embedded, alias) for alias in EMBEDDED]
    heads = [run_check(name, check_head, name) for name in HEADS]
    return [*models, *heads, Check("cache", True, str(cache_folder()))]


def check_embedded(alias: str) -> str:
    """Raises UserError where the model cannot be unpacked, or was changed since."""
    model, folder = EMBEDDED[alias], embedded_folder(alias)
    if model.export:
        embedded_graph(alias)
    if changed := changed_files(alias):
        raise UserError(f"{folder} has changed files ({', '.join(changed)}); delete it, and it is unpacked again")
    return f"{model.title} ({model.license}) in {folder}"


def check_head(name: str) -> str:
    """Raises UserError for a head that cannot be read."""
    return f"digest {RewardHead.load(head_folder(name)).digest[:12]}"


def check_keys() -> list[Check]:
    """The keys that are set in the environment; never their values."""
    return [Check(name, True, "set" if os.environ.get(name) else "not set") for name in KEYS]


def check_store(workspace: Workspace) -> list[Check]:
    """The ledger and every table and mix hash to what was written."""
    checks = [run_check("ledger", check_calls, workspace)] if is_begun(workspace) else []
    checks += [run_check(f"build {name}", check_build, workspace, name) for name in workspace.build_names()]
    checks += [run_check("other tables", check_other_tables, workspace)] if is_begun(workspace) else []
    checks += [run_check(f"mix {name}", check_mix, workspace, name) for name in workspace.mix_names()]
    checks += [run_check(f"pulled mix {folder.name}", check_pulled, folder) for folder in workspace.pulled_folders()]
    checks += [run_check(f"review {name}", check_review, workspace.data, name) for name in review_names(workspace.data)]
    checks += [run_check(f"noise {path.stem}", check_noise_record, path) for path in workspace.noise_files()]
    checks += [run_check(f"head {path.name}", check_own_head, path) for path in workspace.heads()]
    checks += [run_check("vectors", check_vectors, workspace)] if workspace.vectors.exists() else []
    return [*checks, *check_trained(workspace)]


def check_trained(workspace: Workspace) -> list[Check]:
    """All that training and evaluation stored is what was written."""
    checks = [run_check(f"run {folder.name}", check_run, folder) for folder in run_folders(workspace.data)]
    evaluations = workspace.evaluation_folders()
    checks += [run_check(f"evaluation {folder.name}", check_evaluation, folder) for folder in evaluations]
    kinds = {
        "tokens": (workspace.tokens, check_tokens),
        "references": (workspace.references, check_references),
        "reward features": (workspace.reward_features, check_features),
    }
    checks += [run_check(name, look, workspace) for name, (place, look) in kinds.items() if place.exists()]
    return checks


def run_check(what: str, look: Callable[..., str], *where: object) -> Check:
    """The result of a check, or the error it met."""
    try:
        return Check(what, True, look(*where))
    except UserError as error:
        return Check(what, False, str(error))


def check_calls(workspace: Workspace) -> str:
    """Calls by state. Raises UserError where one is not what was recorded, and where calls are gone."""
    faults = check_ledger(workspace.ledger).faults
    if faults:
        more = f" and {len(faults) - 1} more: curate ledger --check lists them" if len(faults) > 1 else ""
        raise UserError(f"{workspace.ledger}: {faults[0]}{more}; forget damaged answers with: curate ledger --compact")
    with Ledger(workspace.ledger, to_read=True) as ledger:
        counts = ledger.counts()
    most = max((table.calls for table in whole_tables(workspace)), default=0)
    if most and not counts:
        raise UserError(
            f"{workspace.ledger} holds no call and a table was made of {most}; restore it, or curate build asks again "
            "what it needs"
        )
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no calls"


def whole_tables(workspace: Workspace) -> list[Table]:
    """The tables of the builds whose records and manifests can be read."""
    found: list[Table] = []
    for name in workspace.build_names():
        with suppress(UserError):
            found += workspace.open_tables(workspace.read_build(name)).values()
    return found


def check_build(workspace: Workspace, name: str) -> str:
    """Raises UserError where a table of the build, or the noise it was screened by, is missing or damaged."""
    record = workspace.read_build(name)
    refuse_damage([error for table in workspace.open_tables(record).values() for error in table.damage()])
    refuse_lost_noise(workspace, record)
    return "whole"


def check_other_tables(workspace: Workspace) -> str:
    """Raises UserError where a table that no build stands for any more is damaged; a mix may be locked to it."""
    used = {table.folder for table in whole_tables(workspace)}
    others = [path.parent for path in workspace.tables.glob("*/*/manifest.json") if path.parent not in used]
    damage = []
    for folder in sorted(others):
        remedy = f"restore it, or remove {folder} if you need no mix that is locked to it"
        table = load_table(folder, remedy)
        damage += table.damage() if table else []
    refuse_damage(damage)
    return f"{len(others)} that no build stands for now"


def check_mix(workspace: Workspace, name: str) -> str:
    """Raises UserError where a file of the mix is not what its lock says."""
    mix = workspace.open_mix(name)
    check_recipe_file(workspace, name, mix.lock)
    refuse_damage(list(mix.damage().values()))
    return "whole"


def check_pulled(folder: Path) -> str:
    """Raises UserError where a file of a pulled mix is not what was published."""
    refuse_damage(list(open_mix_folder(folder, remedy="pull it again with: curate pull").damage().values()))
    return "whole"


def check_review(data: Path, name: str) -> str:
    """Records and answers of a review. Raises UserError where a file of it is damaged."""
    begun_review(data, name)
    read_file(data, name, UPLOADED)
    if (path := review_folder(data, name) / PULLED).exists():
        read_record(path, remedy=f"pull everything again with: curate review pull {name}")
    return f"{read_asked(data, name).height} records, {read_answers(data, name).height} answers"


def check_noise_record(path: Path) -> str:
    """Raises UserError for a damaged measurement."""
    found = read_noise_record(path)
    return f"of {found['scorer']}"


def check_own_head(folder: Path) -> str:
    """Raises UserError for a damaged head that was trained here."""
    return f"digest {RewardHead.load(folder).digest[:12]}"


def check_vectors(workspace: Workspace) -> str:
    """Raises UserError for damaged shards; a build sets them aside and embeds their texts again."""
    shards = sorted(workspace.vectors.glob("*/*.npy"))
    if bad := [path for path in shards if not is_whole_shard(path)]:
        raise UserError(f"{bad[0]} is damaged; remove it, and its texts are embedded again when they are needed")
    return f"{len(shards)} shards"


def check_scorer(cfg: DoctorConfig, scorer: Backend) -> list[Check]:
    """Noise and probes of a scorer. One that gives too few scores is not probed."""
    scored_twice = run_check(f"noise {cfg.scorer}", check_noise, cfg, scorer)
    return [scored_twice, check_probes(cfg, scorer)] if scored_twice.is_good else [scored_twice]


def check_probes(cfg: DoctorConfig, scorer: Backend) -> Check:
    """Whether the scorer prefers a response that says nothing, or not what was asked, to real ones."""
    with open_session(cfg.data, max_failed_share=1.0) as session:
        probed = probe_scorer(scorer, session.recorder, cfg.num_pairs)
    return Check("probes", not probed.preferred(), probed.sentence(), probed.to_json())


def check_noise(cfg: DoctorConfig, scorer: Backend) -> str:
    """Measures it and keeps it. Raises UserError where the scorer gives too few scores.

    What the ledger has is not asked again: a second time, for as many pairs, finds the same.
    """
    # Failures are counted here, over both times together.
    with open_session(cfg.data, max_failed_share=1.0) as session:
        measured = measure_noise(scorer, session.recorder, cfg.num_pairs)
    path = save_noise(Workspace(cfg.data), measured)
    failed = f", {measured.failed} failed" if measured.failed else ""
    width = margin_width(measured.is_pairwise, candidates=2)
    found = f"a margin of {width * measured.noise:.4g} or less is a tie (largest {width * measured.max:.4g})"
    return f"{found}; {measured.rows} scored twice{failed}; kept in {path}"
