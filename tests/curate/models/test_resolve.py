"""Names become models: what each says of itself, before anything is loaded or asked."""

import pytest
from scripted import completion, user

from curate.models.digests import folder_digest
from curate.models.embedded import embedded_folder
from curate.models.resolve import resolve_generator, resolve_scorer
from curate.store.folders import write_folder
from schemas.calls import Request
from schemas.errors import UserError

SERVER = "http://127.0.0.1:8000/v1"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "NVIDIA_API_KEY", "PAIRWRIGHT_API_KEY", "OPENAI_BASE_URL", "NIM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(tmp_path):
    """A finished run on the embedded model."""
    folder = tmp_path / "runs" / "sft-1"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    manifest = {"kind": "sft", "base": "smollm2", "finished_at": "2026-11-01T00:00:00Z"}
    write_folder(folder / "manifest.json", "sft-1", manifest, ["adapter/adapter_model.safetensors"])
    return "sft-1"


def test_an_unknown_generator_is_met_with_the_nearest_and_the_forms(tmp_path, run):
    with pytest.raises(
        UserError, match=r"no generator 'sft1'; did you mean 'sft-1'\? Known: smollm2, sft-1, hf:\.\.\., vllm:"
    ):
        resolve_generator("sft1", tmp_path)


def test_an_unknown_scorer_is_met_with_the_forms(tmp_path):
    with pytest.raises(UserError) as error:
        resolve_scorer("skywork", tmp_path)

    forms = ("nim", "classify", "pooling", "vllm", "hf", "first-token", "judge", "judge-pairs")
    assert all(f"{prefix}:..." in str(error.value) for prefix in forms)


@pytest.mark.parametrize("name", ["judge:", "nim:", "hf:", "classify:"])
def test_a_prefix_alone_is_no_name(tmp_path, name):
    with pytest.raises(UserError, match="no scorer"):
        resolve_scorer(name, tmp_path)


@pytest.mark.parametrize("name", ["judge:nobody", "judge:nim:m", "judge-pairs:judge:smollm2", "judge:"])
def test_what_is_no_generator_cannot_judge(tmp_path, name):
    with pytest.raises(UserError, match=r"no (generator|scorer)"):
        resolve_scorer(name, tmp_path)


@pytest.mark.parametrize("name", ["classify:m", "classify:http://h:1/v1", "pooling:ftp://h#m", "classify:secret@h#m"])
def test_a_classifier_without_address_or_model_is_refused_without_repeating_it(tmp_path, name):
    with pytest.raises(UserError, match=r"is named as (classify|pooling):http://HOST:PORT#MODEL") as error:
        resolve_scorer(name, tmp_path)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("prefix", ["", "judge:", "judge-pairs:", "classify:", "pooling:"])
def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path, prefix):
    named = resolve_scorer if prefix else resolve_generator

    with pytest.raises(UserError, match="put no user name, password or query in the address") as error:
        named(f"{prefix}http://me:secret@127.0.0.1:8000/v1#m", tmp_path)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["judge:openai:m", "judge-pairs:openai:m", "nim:m"])
def test_a_missing_key_is_missed_at_the_first_call(tmp_path, name):
    scorer = resolve_scorer(name, tmp_path)

    with pytest.raises(UserError, match=r"needs a key: set (OPENAI|NVIDIA)_API_KEY"):
        list(scorer.answer([Request("score", user("Hi"))], {0}))


@pytest.mark.parametrize(
    ("name", "is_remote", "price_name", "compares", "form"),
    [
        ("reward-mini", False, None, False, "response"),
        ("nim:m", True, "nim:m", False, "response"),
        (f"classify:{SERVER}#m", True, f"classify:{SERVER}#m", False, "response"),
        (f"pooling:{SERVER}#m", True, f"pooling:{SERVER}#m", False, "response"),
        ("vllm:smollm2", True, None, False, "response"),
        ("judge:openai:gpt-4o-mini", True, "openai:gpt-4o-mini", True, "response"),
        (f"judge:{SERVER}#m", True, f"{SERVER}#m", True, "response"),
        ("judge:smollm2", False, None, True, "response"),
        ("judge:vllm:smollm2", True, None, True, "response"),
        ("judge-pairs:openai:gpt-4o-mini", True, "openai:gpt-4o-mini", False, "pair"),
        ("judge-pairs:smollm2", False, None, False, "pair"),
    ],
)
def test_a_scorer_says_what_it_costs_and_what_its_scores_mean(tmp_path, name, is_remote, price_name, compares, form):
    scorer = resolve_scorer(name, tmp_path)

    assert (scorer.model, scorer.is_remote, scorer.price_name) == (name, is_remote, price_name)
    assert (scorer.compares_across_prompts, scorer.form) == (compares, form)
    assert (scorer.rubric is not None) == name.startswith("judge")


def test_a_generator_says_what_it_costs(tmp_path, run):
    names = ("smollm2", run, "vllm:smollm2", "openai:m", f"{SERVER}#m")
    found = [resolve_generator(name, tmp_path) for name in names]

    assert [model.model for model in found] == list(names)
    assert [model.price_name for model in found] == [None, None, None, "openai:m", f"{SERVER}#m"]
    assert [model.is_remote for model in found] == [False, False, True, True, True]


def test_a_served_model_has_the_digest_of_its_weights(tmp_path, run):
    folder = embedded_folder("smollm2")
    local, served = (resolve_generator(f"{prefix}{run}", tmp_path).digest for prefix in ("", "vllm:"))

    assert resolve_generator("vllm:smollm2", tmp_path).digest == folder_digest(folder)
    assert resolve_generator(f"vllm:{folder}", tmp_path).digest == folder_digest(folder)
    assert local == served != folder_digest(folder)


def test_a_model_elsewhere_is_not_served_here(tmp_path):
    with pytest.raises(UserError, match="vLLM serves a model of this machine or the hub"):
        resolve_generator("vllm:openai:gpt-4o-mini", tmp_path)


def test_a_folder_that_is_none_is_no_reward_model(tmp_path):
    for prefix in ("hf", "first-token"):
        with pytest.raises(UserError, match="no model folder"):
            resolve_scorer(f"{prefix}:{tmp_path / 'nothing'}", tmp_path)


def test_another_rubric_is_another_judge_and_the_same_text_is_the_same(tmp_path):
    copy = tmp_path / "copy.md"
    copy.write_text(resolve_scorer("judge:openai:m", tmp_path).rubric)
    digests = [
        resolve_scorer("judge:openai:m", tmp_path, None, rubric).digest for rubric in ("helpful", "correct", str(copy))
    ]

    assert digests[0] == digests[2] != digests[1]
    assert resolve_scorer("judge-pairs:openai:m", tmp_path).digest not in digests


def test_an_unknown_rubric_matters_only_to_a_judge(tmp_path):
    resolve_scorer("nim:m", tmp_path, None, "nothing")

    with pytest.raises(UserError, match="--rubric nothing is no file"):
        resolve_scorer("judge:openai:m", tmp_path, None, "nothing")


def test_a_judge_may_be_a_run(tmp_path, run):
    assert resolve_scorer(f"judge:{run}", tmp_path).digest != resolve_scorer("judge:smollm2", tmp_path).digest


def test_openai_may_be_elsewhere_and_no_key_reaches_an_error(tmp_path, endpoint, monkeypatch):
    server = endpoint(lambda body: (401, {"error": {"message": "bad key sk-secret"}}))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    with pytest.raises(UserError, match="refused the key") as error:
        list(resolve_scorer("judge-pairs:openai:m", tmp_path).answer([Request("score", user("Hi"))], {0}))

    assert "sk-secret" not in str(error.value)


@pytest.mark.parametrize(("name", "variable"), [("openai:m", "OPENAI_BASE_URL"), ("nim:m", "NIM_BASE_URL")])
def test_a_model_elsewhere_has_no_price_but_that_of_its_address(tmp_path, monkeypatch, name, variable):
    named = resolve_scorer if name.startswith("nim") else resolve_generator
    monkeypatch.setenv(variable, f"{SERVER}/")

    found = named(name, tmp_path)

    assert (found.model, found.digest, found.price_name) == (name, SERVER, f"{SERVER}#m")


@pytest.mark.parametrize("told", ["", " ", "https://api.openai.com/v1/", "https://api.openai.com/v1"])
def test_openai_is_where_it_always_is_unless_it_is_said_to_be_elsewhere(tmp_path, monkeypatch, told):
    there = resolve_generator("openai:m", tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", told)

    found = resolve_generator("openai:m", tmp_path)

    assert found.digest == there.digest == "https://api.openai.com/v1"
    assert found.price_name == there.price_name == "openai:m"


def test_a_slash_at_the_end_of_an_address_makes_no_other_model(tmp_path):
    plain, slashed = (resolve_generator(f"{SERVER}{end}#m", tmp_path) for end in ("", "/"))
    scorers = [resolve_scorer(f"classify:{SERVER}{end}#m", tmp_path) for end in ("", "/")]

    assert (plain.model, plain.digest, plain.price_name) == (slashed.model, slashed.digest, slashed.price_name)
    assert scorers[0].digest == scorers[1].digest == SERVER


def test_a_reward_nim_of_ones_own_needs_no_key(tmp_path, endpoint, monkeypatch):
    monkeypatch.setenv("NIM_BASE_URL", endpoint(lambda body: (200, completion("reward:-3.5"))).url)

    ((found,),) = resolve_scorer("nim:m", tmp_path).answer([Request("score", user("Hi"))], {0})

    assert found[1].values == (-3.5,)


@pytest.mark.parametrize("form", ["classify:{}#m", "pooling:{}#m", "judge:{}#m", "judge-pairs:{}#m"])
def test_a_slash_at_the_end_of_an_address_is_no_other_scorer(form, tmp_path):
    one, other = (
        resolve_scorer(form.format(url), tmp_path) for url in ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/")
    )

    assert (one.model, one.digest, one.price_name) == (other.model, other.digest, other.price_name)
