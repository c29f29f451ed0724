"""A mix is pushed to a real server on this machine by the hub's own client: whole, private and without a secret."""

import json
import shutil
from dataclasses import replace

import pytest
from hub_server import serve_hub
from published import TOKEN, TOKENS, ask_hub, publish_mix, use_hub

from curate.cli.main import main
from curate.config import PushConfig
from curate.mix.hub.push import ALLOWED, find_refusals, push
from curate.store.mixes import open_mix_folder
from curate.store.workspace import Workspace
from schemas.errors import UserError

# The hub's client asks its HTTP library in a way that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = [
    *("README.md", "checksums.txt", "croissant.json", "lineage.parquet", "lock.json", "recipe.toml"),
    *("test-00000-of-00001.parquet", "train-00000-of-00001.parquet"),
]
ALLOW = ("unknown-license",)
LOAD = "import datasets, sys; print({k: v.num_rows for k, v in datasets.load_dataset(sys.argv[1]).items()})"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the mixes v1, and v2 of fewer rows."""
    folder = tmp_path_factory.mktemp("data")
    publish_mix(folder)
    publish_mix(folder, "v2", count=20)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve_hub(dict(TOKENS)) as server:
        use_hub(server, monkeypatch, tmp_path)
        yield server


@pytest.fixture
def send(data, hub):
    """Pushes v1 to me/mix, unless told otherwise."""

    def pushed(**options):
        return push(PushConfig(**{"name": "v1", "repo": "me/mix", "allow": ALLOW, "data": data, **options}))

    return pushed


def refused(send, **options):
    with pytest.raises(UserError) as error:
        send(**options)
    assert "\n" not in str(error.value)
    return str(error.value)


def is_as_published(files, folder):
    """Whether these files are those of the folder of a mix, beside what the hub itself writes."""
    names = sorted(path.name for path in folder.iterdir())
    contents = {name: file.content for name, file in files.items() if name != ".gitattributes"}
    return contents == {name: (folder / name).read_bytes() for name in names}


def test_a_mix_is_pushed_whole_private_and_without_a_secret(data, hub, tmp_path):
    command = ("-m", "curate.cli.main", "push", "v1", "me/mix", "--allow", "unknown-license", "--data", str(data))
    done = ask_hub(hub, tmp_path, *command, "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["private"], said["uploaded"], sorted(said["files"])) == (True, True, FILES)
    assert [json.loads(r.body)["visibility"] for r in hub.log if r.path == "/api/repos/create"] == ["private"]
    assert {request.is_private for request in hub.log if request.is_private is not None} == {True}
    assert is_as_published(hub.repos["me/mix"].files(), data / "mixes" / "v1")
    assert hub.repos["me/mix"].branches == {"main": said["commit"]}
    assert len([path for path in hub.paths("POST") if "/commit/" in path]) == 1
    written = [path for folder in (data, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
    assert TOKEN not in done.stdout + done.stderr + "".join(map(str, hub.log))

    loaded = ask_hub(hub, tmp_path, "-c", LOAD, "me/mix")

    assert loaded.stdout.splitlines()[-1:] == ["{'train': 26, 'test': 4}"], loaded.stderr


def test_a_dry_run_says_what_would_be_uploaded_and_asks_nobody(send, hub):
    planned = send(dry_run=True, allow=())

    assert planned.commit is None
    assert list(planned.files) == FILES
    assert planned.licenses == {"unknown": 30}
    assert planned.lines()[-1].startswith("would be refused: the license of 30 of the 30 rows of mix 'v1' is unknown")
    assert not hub.log


def test_a_dry_run_that_would_be_refused_has_exit_code_1(data, hub, capsys):
    command = ["push", "v1", "me/mix", "--dry-run", "--data", str(data)]

    assert main(command) == 1
    assert "would be refused: the license of 30 " in capsys.readouterr().out
    assert main([*command, "--allow", "unknown-license", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == []
    assert not hub.log


def test_what_is_there_is_not_pushed_again(send, hub):
    first = send()
    hub.log.clear()

    again = send()

    assert (again.is_new, again.commit) == (False, first.commit)
    assert again.lines() == ["mix 'v1' is already there, whole, in me/mix at main; nothing to do"]
    assert not hub.paths("PUT")
    assert not [path for path in hub.paths("POST") if "/commit/" in path]


def test_a_push_that_broke_goes_on_with_what_is_missing(send, hub, data):
    train = f"/lfs/{open_mix_folder(data / 'mixes' / 'v1').lock.files['train-00000-of-00001.parquet']}"
    hub.cuts = lambda method, path: (method, path) == ("PUT", train)

    broken = refused(send)

    assert broken.startswith("mix 'v1' could not be pushed to me/mix: the connection broke (")
    assert broken.endswith("; look at the network, and give the same command again: it goes on with what is missing")
    assert list(hub.repos["me/mix"].files()) == [".gitattributes"]
    assert len(hub.objects) == 2

    hub.log.clear()
    hub.cuts = lambda method, path: False
    assert send().is_new

    assert hub.paths("PUT") == [train]
    assert is_as_published(hub.repos["me/mix"].files(), data / "mixes" / "v1")


def test_large_files_go_in_parts(send, hub, data):
    hub.part_bytes = 5000

    send()

    assert len([path for path in hub.paths("PUT") if path.count("/") == 3]) == 5
    assert is_as_published(hub.repos["me/mix"].files(), data / "mixes" / "v1")


def test_personal_data_is_published_only_by_name(tmp_path, monkeypatch):
    with serve_hub(dict(TOKENS)) as hub:
        use_hub(hub, monkeypatch, tmp_path)
        publish_mix(tmp_path, note=" Ask john.miller@acme-widgets.com.")
        asked = PushConfig(name="v1", repo="me/mix", allow=ALLOW, data=tmp_path)

        with pytest.raises(UserError) as error:
            push(asked)

        assert str(error.value) == (
            "mix 'v1' has personal data in 30 pairs (email 30); screen its builds again with --redact or "
            "--drop-personal-data and publish a new mix, or publish it all the same with --allow personal-data"
        )
        assert not hub.log
        assert push(replace(asked, allow=(*ALLOW, "personal-data"))).is_new


def test_licenses_that_are_unknown_or_conflict_are_published_only_by_name(data):
    mix = Workspace(data).open_mix("v1")
    lock = replace(
        mix.lock, licenses={"MIT": 10, "MIT AND unknown": 20}, facts={"license": {"conflicts": ["MIT forbids it"]}}
    )

    unknown, conflict = find_refusals(replace(mix, lock=lock), ())

    assert unknown.startswith("the license of 20 of the 30 rows of mix 'v1' is unknown; ")
    assert conflict == (
        "the licenses of mix 'v1' conflict: MIT forbids it, or publish it all the same with --allow license-conflict"
    )
    assert find_refusals(replace(mix, lock=lock), ("unknown-license", "license-conflict")) == []


def test_nothing_else_can_be_allowed(send, hub):
    assert refused(send, allow=("damage",)) == (
        "--allow damage is none of personal-data, unknown-license, license-conflict"
    )
    assert not hub.log


@pytest.fixture
def copied(data, tmp_path):
    """A data folder with a copy of v1 alone."""
    shutil.copytree(data / "mixes" / "v1", tmp_path / "mixes" / "v1")
    return tmp_path


@pytest.mark.parametrize("name", FILES[1:])
def test_a_mix_that_does_not_verify_is_never_pushed(name, copied, hub):
    with (copied / "mixes" / "v1" / name).open("ab") as file:
        file.write(b" ")

    with pytest.raises(UserError, match=name):
        push(PushConfig(name="v1", repo="me/mix", allow=ALLOWED, data=copied))

    assert not hub.log


def test_a_card_may_be_edited_here_and_on_the_hub(copied, hub, caplog):
    asked = PushConfig(name="v1", repo="me/mix", allow=ALLOW, data=copied)
    card = copied / "mixes" / "v1" / "README.md"
    card.write_text(card.read_text() + "More about it.\n")
    assert push(asked).is_new
    repo = hub.repos["me/mix"]
    assert repo.files()["README.md"].content == card.read_bytes()

    repo.commit("main", {**repo.files(), "README.md": repo.files()["recipe.toml"]})

    with caplog.at_level("INFO"):
        assert not push(asked).is_new
    assert "the card of me/mix is another one than here, and stays as it is" in caplog.text


def test_other_content_is_never_overwritten(send, hub):
    send()
    before = hub.repos["me/mix"].files()

    assert refused(send, name="v2") == "me/mix holds another mix than 'v2'; give another repository"

    hub.repos["me/mix"].commit("main", {"notes.txt": before["README.md"]})
    assert refused(send) == "me/mix holds something else (notes.txt); give another repository"
    assert refused(send, revision="new") == "me/mix holds something else (notes.txt); give another repository"
    assert list(hub.repos["me/mix"].branches) == ["main"]


@pytest.fixture
def second(data, tmp_path):
    """A data folder with another version of v1."""
    publish_mix(tmp_path / "second", count=25)
    return tmp_path / "second"


def test_another_version_of_a_mix_goes_into_a_branch(send, hub, data, second):
    send()
    repo = hub.repos["me/mix"]
    extra = {**repo.files(), "notes.md": repo.files()["README.md"]}
    main = repo.commit("main", extra)

    assert refused(send, data=second) == (
        "me/mix holds another version of mix 'v1' at main; give --revision BRANCH or another repository"
    )
    assert send(data=second, revision="rows/smaller").is_new

    assert repo.branches["main"] == main
    # what was only in the other version is not in this one
    assert is_as_published(repo.files("rows/smaller"), second / "mixes" / "v1")
    assert not send(data=second, revision="rows/smaller").is_new
    assert "at rows/smaller; give --revision" in refused(send, revision="rows/smaller")


def test_a_branch_that_was_only_begun_is_finished(send, hub, data, second):
    send()
    hub.cuts = lambda method, path: "/commit/" in path
    assert "the connection broke" in refused(send, data=second, revision="smaller")
    repo = hub.repos["me/mix"]
    # the answer was lost, and not the commit: it is found
    hub.cuts = lambda method, path: False
    assert not send(data=second, revision="smaller").is_new

    repo.branches["other"] = repo.branches["main"]

    assert send(data=second, revision="other").is_new
    assert is_as_published(repo.files("other"), second / "mixes" / "v1")


def test_what_somebody_else_commits_meanwhile_stays(send, hub):
    def commit_first(method, path):
        if "/preupload/" in path:
            hub.repos["me/mix"].commit("main", dict(hub.repos["me/mix"].files()))
        return False

    hub.cuts = commit_first

    assert refused(send).endswith("somebody changed it meanwhile; give the command again")
    assert list(hub.repos["me/mix"].files()) == [".gitattributes"]


@pytest.mark.parametrize(
    "token, repo, problem",
    [
        (None, "me/mix", "no token of the hub; log in with hf auth login, or set HF_TOKEN to a token that may write"),
        ("hf_wrong", "me/mix", "the hub does not know the token; log in with hf auth login"),
        ("hf_reads", "me/mix", "the token has no right to it (You don't have the rights to write under"),
        ("hf_other", "me/mix", "the token has no right to it ("),
        (TOKEN, "mix", "'mix' is no repository of the hub; name it as owner/name"),
        (TOKEN, "me/a--b", "Cannot have -- or .. in repo_id"),
    ],
)
def test_a_token_without_rights_and_a_wrong_name_are_one_sentence(
    token, repo, problem, send, hub, monkeypatch, tmp_path
):
    use_hub(hub, monkeypatch, tmp_path, token)

    said = refused(send, repo=repo)

    assert problem in said
    assert token is None or token not in said
    assert not hub.repos


def test_a_repository_keeps_its_visibility(send, hub):
    assert not send(public=True).is_private
    assert not hub.repos["me/mix"].is_private

    assert refused(send) == "me/mix is public; give --public to publish mix 'v1' for all, or another repository"

    hub.repos["me/mix"].is_private = True
    assert refused(send, public=True) == (
        "me/mix is private, and --public makes only a new repository public; change it in its settings"
    )


def test_offline_nothing_is_asked(send, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    assert refused(send) == "mix 'v1' could not be pushed to me/mix: HF_HUB_OFFLINE is set; unset it"
    assert not hub.log
