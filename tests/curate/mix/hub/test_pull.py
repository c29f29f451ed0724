"""A published mix is brought back from a real server on this machine as a build, and what it holds out stays out."""

import json
import shutil

import polars as pl
import pytest
from hub_routes import File
from hub_server import serve_hub
from published import TOKEN, TOKENS, ask_hub, publish_mix, use_hub

from curate.config import BuildConfig, DoctorConfig, MixConfig, PullConfig, PushConfig
from curate.mix.hub.pull import pull
from curate.mix.hub.push import push
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.report.doctor import doctor
from curate.store.mixes import open_mix_folder
from curate.store.workspace import Workspace
from schemas.errors import UserError

# The hub's client asks its HTTP library in a way that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
LOAD = "import datasets, sys; print({k: v.num_rows for k, v in datasets.load_dataset(sys.argv[1]).items()})"


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """The data folder where v1 was made."""
    folder = tmp_path_factory.mktemp("origin")
    publish_mix(folder)
    return folder


@pytest.fixture(scope="module")
def there(origin, tmp_path_factory):
    """The files of v1 on the hub."""
    with serve_hub(dict(TOKENS)) as hub, pytest.MonkeyPatch.context() as patch:
        use_hub(hub, patch, tmp_path_factory.mktemp("hub"))
        push(PushConfig(name="v1", repo="me/mix", allow=("unknown-license",), data=origin))
        yield hub.repos["me/mix"]


@pytest.fixture
def hub(there, monkeypatch, tmp_path):
    """A hub with v1 in me/mix."""
    with serve_hub(dict(TOKENS)) as server:
        use_hub(server, monkeypatch, tmp_path)
        server.repos["me/mix"] = type(there)(True, dict(there.branches), dict(there.commits))
        yield server


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Vectors of the texts, which take a while: made by the first pull for all."""
    return tmp_path_factory.mktemp("vectors") / "vectors"


@pytest.fixture
def data(tmp_path, vectors):
    folder = tmp_path / "data"
    if vectors.exists():
        shutil.copytree(vectors, folder / "vectors")
    yield folder
    if not vectors.exists() and (folder / "vectors").exists():
        shutil.copytree(folder / "vectors", vectors)


def refused(data, repo="me/mix", **options):
    with pytest.raises(UserError) as error:
        pull(PullConfig(repo=repo, data=data, **options))
    assert "\n" not in str(error.value)
    return str(error.value)


def pairs_of(data, name):
    workspace = Workspace(data)
    return workspace.open_pairs(workspace.read_build(name)).scan().collect()


def downloads(hub):
    return sorted(path.rpartition("/")[2] for path in hub.paths("GET") if "/resolve/" in path)


def chosen_texts(mix, split):
    """The chosen responses of a split."""
    return set(mix.scan(split).collect()["chosen"].list.last().struct.field("content"))


def test_a_pulled_mix_is_a_build_with_all_that_its_rows_say(hub, data, origin):
    pulled = pull(PullConfig(repo="me/mix", name="back", data=data))

    published = open_mix_folder(origin / "mixes" / "v1")
    assert {path.name: path.read_bytes() for path in (data / "pulled" / "back").iterdir()} == {
        path.name: path.read_bytes() for path in published.folder.iterdir()
    }
    assert pulled.mix.lock == published.lock
    assert not any(TOKEN.encode() in path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert pulled.summary()["kept"] == 30
    rows = published.scan().collect()
    expected = pl.DataFrame(
        {
            "messages": rows["prompt"],
            "chosen": rows["chosen"].list.last().struct.field("content"),
            "rejected": rows["rejected"].list.last().struct.field("content"),
            **{name: rows[name] for name in ("prompt_group", "score_chosen", "score_rejected", "scorer", "tools")},
            **{name: rows[name] for name in ("origin", "flaw", "license")},
            "is_heldout": rows["split"] == "heldout",
        }
    ).with_columns(pl.col("origin", "flaw").cast(pl.String))
    found = pairs_of(data, "back").select(expected.columns).with_columns(pl.col("origin", "flaw").cast(pl.String))
    assert found.sort("chosen").equals(expected.sort("chosen"))
    assert found["is_heldout"].sum() == 4


def test_both_splits_of_a_pulled_mix_load(hub, data, tmp_path):
    pull(PullConfig(repo="me/mix", data=data))

    loaded = ask_hub(hub, tmp_path, "-c", LOAD, str(data / "pulled" / "mix"))

    assert loaded.stdout.splitlines()[-1:] == ["{'train': 26, 'test': 4}"], loaded.stderr


@pytest.mark.parametrize("add", [("mix",), ("mix", "own"), ("own", "mix"), ("own", "mix:0.5")])
def test_what_a_pulled_mix_holds_out_is_trained_on_in_no_mix(add, hub, data, origin):
    pull(PullConfig(repo="me/mix", data=data))
    # the same pairs again, from the file that the mix was made of
    build(BuildConfig(source=str(origin / "v1-source.jsonl"), name="own", data=data))
    held = chosen_texts(open_mix_folder(origin / "mixes" / "v1"), "heldout")

    # another seed holds out other groups beside them
    made = mix(MixConfig(name="again", add=add, seed=5, data=data)).path

    train = chosen_texts(open_mix_folder(made), "train")
    assert len(held) == 4
    assert len(train) > 10
    assert held.isdisjoint(train)


def test_what_is_here_is_not_pulled_again(hub, data):
    first = pull(PullConfig(repo="me/mix", data=data))
    hub.log.clear()

    again = pull(PullConfig(repo="me/mix", data=data))

    assert (first.is_new, again.is_new) == (True, False)
    assert not downloads(hub)
    assert again.built.calls == 0
    assert again.lines()[0].startswith("already here, with the same content: mix 'v1' of me/mix")
    assert again.built.tables.keys() == first.built.tables.keys()


def test_a_pull_that_broke_goes_on_with_what_is_missing(hub, data):
    hub.cuts = lambda method, path: method == "GET" and path.endswith(TRAIN)

    broken = refused(data)

    assert broken.startswith("me/mix could not be pulled: ")
    assert broken.endswith("; look at the network, and give the same command again: it goes on with what is missing")
    assert not (data / "pulled" / "mix").exists()
    assert not Workspace(data).build_names()

    hub.log.clear()
    hub.cuts = lambda method, path: False
    assert pull(PullConfig(repo="me/mix", data=data)).is_new

    assert downloads(hub) == [TRAIN]
    assert not list((data / "pulled").glob(".*"))


def test_what_is_left_of_a_try_for_another_mix_is_no_hindrance(hub, data):
    left = data / "pulled" / ".mix.download"
    left.mkdir(parents=True)
    for name in ("train-00001-of-00002.parquet", TRAIN, "lock.json"):
        (left / name).write_bytes(b"of another mix")

    assert pull(PullConfig(repo="me/mix", data=data)).is_new


@pytest.mark.parametrize(
    "status, problem",
    [
        (403, "the token has no right to it (Not now); give one that may write there"),
        (500, "the hub could not answer (500); give the same command again: it goes on with what is missing"),
    ],
)
def test_an_error_of_the_hub_is_none_of_the_disk(status, problem, hub, data):
    hub.failing = lambda method, path: status if path.endswith(TRAIN) else 0

    assert refused(data) == f"me/mix could not be pulled: {problem}"


def test_a_file_that_was_lost_here_is_brought_again(hub, data):
    pull(PullConfig(repo="me/mix", data=data))
    whole = (data / "pulled" / "mix" / TEST).read_bytes()
    (data / "pulled" / "mix" / "README.md").write_text("# Edited here\n")
    edited = doctor(DoctorConfig(data=data))
    (data / "pulled" / "mix" / TEST).write_bytes(whole[:-9] + b"123456789")
    damaged = doctor(DoctorConfig(data=data))

    assert [check.name for each in (edited, damaged) for check in each.checks if not check.is_good] == [
        "pulled mix mix"
    ]
    assert pull(PullConfig(repo="me/mix", data=data)).is_new
    assert (data / "pulled" / "mix" / TEST).read_bytes() == whole


@pytest.mark.parametrize("gone", ["lock.json", "checksums.txt"])
def test_a_dataset_that_is_no_published_mix_is_refused(gone, hub, data):
    repo = hub.repos["me/mix"]
    repo.commit("main", {name: file for name, file in repo.files().items() if name != gone})

    assert refused(data) == "me/mix is no published mix; import it with curate build --source me/mix"


def change_lock(repo, **fields):
    lock = json.loads(repo.files()["lock.json"].content) | fields
    repo.commit("main", {**repo.files(), "lock.json": File(json.dumps(lock).encode(), False)})


@pytest.mark.parametrize("written, problem", [(3, "written by an earlier"), (99, "written by a newer")])
def test_a_mix_of_another_format_is_refused(written, problem, hub, data):
    change_lock(hub.repos["me/mix"], format=written)

    assert f"me/mix/lock.json was {problem} pairwright (format {written}, " in refused(data)
    assert not list((data / "pulled").glob("[!.]*"))


@pytest.mark.parametrize("name", ["../../outside.parquet", "/etc/passwd", "absent.parquet", ""])
def test_a_lock_that_names_a_file_elsewhere_is_refused(name, hub, data):
    change_lock(hub.repos["me/mix"], files={name: "0" * 64})

    assert refused(data) == (
        f"me/mix is not what was published: its lock.json names {name!r}, and there is no such file"
    )


def test_a_card_that_was_edited_on_the_hub_comes_along(hub, data):
    repo = hub.repos["me/mix"]
    pull(PullConfig(repo="me/mix", name="first", data=data))
    repo.commit("main", {**repo.files(), "README.md": File(b"# Edited\n", False)})

    assert pull(PullConfig(repo="me/mix", data=data)).is_new
    assert (data / "pulled" / "mix" / "README.md").read_bytes() == b"# Edited\n"
    assert not pull(PullConfig(repo="me/mix", name="first", data=data)).is_new


@pytest.mark.parametrize("name", [TRAIN, "lineage.parquet", "recipe.toml", "checksums.txt", "lock.json"])
def test_a_file_that_was_changed_on_the_hub_is_refused_and_forgotten(name, hub, data):
    repo = hub.repos["me/mix"]
    file = repo.files()[name]
    repo.commit("main", {**repo.files(), name: File(file.content + b" ", file.is_lfs)})

    assert refused(data).startswith("me/mix is not what was published: me/mix/")
    assert not list((data / "pulled").iterdir())
    assert not Workspace(data).build_names()


def test_a_lock_that_is_no_json_is_refused(hub, data):
    repo = hub.repos["me/mix"]
    for content in (b"[1]", b"{", b"\xff", b'{"format": Infinity}', b"[" * 100_000):
        repo.commit("main", {**repo.files(), "lock.json": File(content, False)})
        assert refused(data) == "me/mix is no published mix: its lock.json cannot be read"


def test_other_content_under_the_name_is_kept(hub, data, tmp_path):
    before = pull(PullConfig(repo="me/mix", data=data)).commit
    other = publish_mix(tmp_path / "other", count=20)
    files = {path.name: File(path.read_bytes(), path.suffix == ".parquet") for path in other.iterdir()}
    hub.repos["me/mix"].commit("main", files)

    said = refused(data)

    assert said == f"{data}/pulled/mix holds another mix than me/mix does now; give --name for this one"
    assert pull(PullConfig(repo="me/mix", name="new", data=data)).mix.lock.rows == 20
    assert not pull(PullConfig(repo=f"me/mix@{before}", data=data)).is_new


def test_a_name_that_is_taken_is_refused(hub, data, origin):
    shutil.copytree(origin / "mixes", data / "mixes")
    shutil.copytree(origin / "builds", data / "builds")

    assert refused(data, name="v1") == "'v1' is the name of a mix here; give the build another one with --name"
    assert refused(data, name="v1-source") == (
        f"build 'v1-source' was made from {origin}/v1-source.jsonl; give this one another name with --name"
    )
    assert not hub.log


@pytest.mark.parametrize(
    "token, repo, problem",
    [
        (None, "me/mix", "there is no such dataset, or it is private: log in with hf auth login"),
        ("hf_other", "me/mix", "there is no such dataset, or the token may not see it"),
        ("hf_wrong", "me/mix", "the hub does not know the token; log in with hf auth login"),
        (TOKEN, "me/absent", "there is no such dataset, or the token may not see it"),
        (TOKEN, "me/mix@v9", "it has no such revision"),
        (TOKEN, "me", "'me' is no repository of the hub; name it as owner/name"),
    ],
)
def test_what_cannot_be_seen_is_one_sentence(token, repo, problem, hub, data, monkeypatch, tmp_path):
    use_hub(hub, monkeypatch, tmp_path, token)

    assert problem in refused(data, repo)
    assert not (data / "pulled").exists()


def test_a_public_mix_is_pulled_without_a_token(hub, data, monkeypatch, tmp_path):
    use_hub(hub, monkeypatch, tmp_path, None)
    hub.repos["me/mix"].is_private = False

    assert pull(PullConfig(repo="me/mix", data=data)).is_new


def test_personal_data_that_was_published_by_name_is_flagged_here_too(hub, data, tmp_path):
    publish_mix(tmp_path / "other", count=12, note=" Ask john.miller@acme-widgets.com.")
    allow = ("unknown-license", "personal-data")
    push(PushConfig(name="v1", repo="me/personal", allow=allow, data=tmp_path / "other"))

    assert pull(PullConfig(repo="me/personal", data=data)).built.counts.flags["email"] == 12
