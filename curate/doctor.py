"""Checks of the machine, the models, the keys and the store, each with what to do about it."""

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from curate.backends.ledger import Ledger
from curate.config import DoctorConfig
from curate.mix import read_lock
from curate.models import EMBEDDED, cache_folder, changed_files, embedded_folder, file_sha256
from curate.reward_head import HEADS, RewardHead, head_folder
from curate.saved import build_names, mix_names, read_build
from curate.store import damaged_files, library_versions, load_table
from schemas.errors import UserError

KEYS = ("OPENAI_API_KEY", "NVIDIA_API_KEY", "PAIRWRIGHT_API_KEY", "HF_TOKEN")
GIB = 1024**3


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    is_good: bool
    found: str


def doctor(cfg: DoctorConfig) -> list[Check]:
    """All checks. Embedded models are unpacked if they are not yet."""
    return [*machine(cfg.data), *models(), *keys(), *store(cfg.data)]


def machine(data: Path) -> list[Check]:
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


def models() -> list[Check]:
    """The embedded models unpacked and unchanged, the reward heads readable."""
    checks = []
    for alias, model in EMBEDDED.items():
        try:
            folder = embedded_folder(alias)
            changed = changed_files(alias)
            found = f"{model.title} ({model.licence}) in {folder}"
            fix = f"{folder} has changed files ({', '.join(changed)}); delete it, and it is unpacked again"
            checks.append(Check(alias, not changed, fix if changed else found))
        except UserError as error:
            checks.append(Check(alias, False, str(error)))
    for name in HEADS:
        try:
            checks.append(Check(name, True, f"digest {RewardHead.load(head_folder(name)).digest[:12]}"))
        except UserError as error:
            checks.append(Check(name, False, str(error)))
    checks.append(Check("cache", True, str(cache_folder())))
    return checks


def keys() -> list[Check]:
    """Which keys are in the environment; never their values."""
    return [Check(name, True, "set" if os.environ.get(name) else "not set") for name in KEYS]


def store(data: Path) -> list[Check]:
    """The ledger and every table and mix hash to what was written."""
    checks = []
    if (data / "ledger.sqlite").exists():
        with Ledger(data / "ledger.sqlite") as ledger:
            faults = ledger.faults()
            counts = ", ".join(f"{count} {state}" for state, count in ledger.counts().items()) or "no calls"
        checks.append(Check("ledger", not faults, "; ".join(faults) or counts))
    for name in build_names(data):
        built = read_build(data, name)
        missing, bad = [], []
        for stage, key in built["tables"].items():
            table = load_table(data / "tables" / stage / key)
            missing += [] if table else [f"{stage}/{key}"]
            bad += [path.name for path in damaged_files(table)] if table else []
        problem = "; ".join([*(f"no table {name}" for name in missing), *(f"damaged {name}" for name in bad)])
        fix = f"{problem}: delete the table's folder and give the build command again" if problem else "whole"
        checks.append(Check(f"build {name}", not problem, fix))
    for name in mix_names(data):
        path = data / "mixes" / f"{name}.parquet"
        good = path.exists() and file_sha256(path) == read_lock(path.with_name(f"{name}.lock.json"))["sha256"]
        checks.append(Check(f"mix {name}", good, "whole" if good else f"make it again with: curate mix {name}"))
    return checks
