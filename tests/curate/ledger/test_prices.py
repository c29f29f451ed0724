import tomllib

import pytest

from curate.files import asset
from curate.ledger.prices import Price, Prices, usd
from schemas.errors import UserError

GPT = "openai:gpt-4o-mini"


@pytest.fixture
def prices_of(tmp_path):
    """Prices with a table in the data folder, a table given by `--prices`, or both."""

    def load(in_data: str | None = None, given: str | None = None) -> Prices:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        if in_data is not None:
            (data / "prices.toml").write_text(in_data)
        override = None
        if given is not None:
            override = tmp_path / "given.toml"
            override.write_text(given)
        return Prices.load(override, data / "prices.toml")

    return load


def table(model: str, input: float | str, output: float | str = 0, more: str = "") -> str:
    return f'[models."{model}"]\ninput = {input}\noutput = {output}\n{more}\n'


def test_tokens_cost_what_the_table_says_for_a_million():
    prices = Prices({"openai:m": Price(0.15, 0.60)}, {}, "")

    # 2,000,000 x 0.15 / 1e6 + 500,000 x 0.60 / 1e6 = 0.30 + 0.30
    assert prices.cost("openai:m", 2_000_000, 500_000) == pytest.approx(0.60)


def test_what_runs_on_this_machine_costs_nothing_and_an_unknown_model_is_not_free(prices_of):
    prices = prices_of()

    assert (prices.of(None), prices.cost(None, 100, 100)) == (Price(0, 0), 0.0)
    assert (prices.of("openai:gpt-99"), prices.cost("openai:gpt-99", 0, 0)) == (None, None)
    assert prices.of("http://127.0.0.1:8000/v1#m") is None


def test_a_dated_name_has_a_price_only_where_it_is_listed_as_an_alias(prices_of):
    prices = prices_of()

    assert prices.of("openai:gpt-4o-mini-2024-07-18") == prices.of(GPT) == Price(0.15, 0.60)
    assert prices.of("openai:gpt-4o-mini-2031-01-01") is None
    assert prices.of("openai:gpt-4o-2024-05-13") is None


def test_the_given_file_comes_before_the_data_folder_and_that_before_the_package_model_by_model(prices_of):
    in_data = table(GPT, 1) + table("nim:m", 2)
    given = table(GPT, 3)

    prices = prices_of(in_data, given)

    assert prices.of(GPT) == Price(3, 0)
    assert prices.of("openai:gpt-4o-mini-2024-07-18") == Price(3, 0)
    assert prices.of("nim:m") == Price(2, 0)
    assert prices.of("openai:gpt-4o") == Price(2.5, 10)


def test_a_later_alias_comes_before_an_earlier_model_of_that_name(prices_of):
    given = table("openai:mine", 7, more=f'aliases = ["{GPT}"]')

    assert prices_of(given=given).of(GPT) == Price(7, 0)


def test_a_name_comes_before_a_pattern_and_a_longer_pattern_before_a_shorter_one(prices_of):
    server = "http://127.0.0.1:8000/v1#"
    given = table("http://127.0.0.1:*", 1) + table(f"{server}*", 2) + table(f"{server}m", 3)

    prices = prices_of(given=given)

    assert prices.of(f"{server}m") == Price(3, 0)
    assert prices.of(f"{server}other") == Price(2, 0)
    assert prices.of("http://127.0.0.1:9000/v1#m") == Price(1, 0)
    assert prices.of("http://127.0.0.2:8000/v1#m") is None


def test_a_pattern_of_the_users_own_comes_before_a_packaged_name_and_its_aliases(prices_of):
    prices = prices_of(given=table("openai:*", 9))

    assert prices.of(GPT) == prices.of("openai:gpt-4o-mini-2024-07-18") == Price(9, 0)


def test_a_pattern_of_the_data_folder_comes_after_a_given_name_and_before_the_package(prices_of):
    prices = prices_of(table("openai:*", 9), table(GPT, 3))

    assert [prices.of(name) for name in (GPT, "openai:gpt-4o")] == [Price(3, 0), Price(9, 0)]


def test_a_later_price_comes_before_an_earlier_alias_of_that_name(prices_of):
    in_data = table("openai:mine", 7, more=f'aliases = ["{GPT}"]')

    prices = prices_of(in_data, table(GPT, 3))

    assert (prices.of(GPT), prices.of("openai:mine")) == (Price(3, 0), Price(7, 0))


def test_the_version_names_the_packaged_table_and_what_the_user_changed(prices_of):
    plain = prices_of().version
    first, second = prices_of(given=table(GPT, 1)).version, prices_of(given=table(GPT, 2)).version

    assert plain == tomllib.loads(asset("prices.toml").read_text())["version"]
    assert first.startswith(f"{plain}+") and second.startswith(f"{plain}+")
    assert first != second
    assert first == prices_of(given="# the same price\n" + table(GPT, 1)).version


def test_the_packaged_table_is_not_taken_for_the_users_own_in_a_source_checkout():
    assert Prices.load(None, asset("prices.toml")).version == tomllib.loads(asset("prices.toml").read_text())["version"]


def test_every_packaged_price_cites_a_source_and_a_day():
    models = tomllib.loads(asset("prices.toml").read_text())["models"]

    for name, entry in models.items():
        assert entry["source"].startswith("https://"), name
        assert len(entry["checked"]) == 10, name
        assert 0 < entry["input"] < entry["output"], name


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        (table("openai:m", -0.1), "model 'openai:m': `input` must be a number"),
        (table("openai:m", 1, "nan"), "model 'openai:m': `output` must be a number"),
        (table("openai:m", "inf"), "model 'openai:m': `input` must be a number"),
        (table("openai:m", "'0.15'"), "model 'openai:m': `input` must be a number"),
        (table("openai:m", "true"), "model 'openai:m': `input` must be a number"),
        ('[models."openai:m"]\ninput = 1', "model 'openai:m' has no `output`"),
        (table("openai:m", 1, 1, "ouput = 2"), "model 'openai:m': unknown field 'ouput'"),
        (table("openai:*-mini", 1), "model 'openai:*-mini': a * may stand only at the end"),
        (table("openai:m", 1, 1, "aliases = 'x'"), "`aliases` must be a list of full names"),
        (table("openai:m", 1, 1, "aliases = ['x*']"), "`aliases` must be a list of full names"),
        (table("a", 1, 1, "aliases = ['x']") + table("b", 1, 1, "aliases = ['x']"), "the alias 'x'"),
        (table("a", 1, 1, "aliases = ['b']") + table("b", 1), "the alias 'b'"),
        ("[models]\n'openai:m' = 3", "model 'openai:m' must have `input` and `output`"),
        ("models = 3", "prices stand under"),
        ("['openai:m']\ninput = 1", "unknown field 'openai:m'"),
        ("models = ", "is not TOML"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_by_file_and_model(prices_of, toml, sentence):
    with pytest.raises(UserError) as refused:
        prices_of(given=toml)

    assert "given.toml" in str(refused.value)
    assert sentence in str(refused.value)


def test_a_price_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no price file .*nowhere\.toml"):
        Prices.load(tmp_path / "nowhere.toml", tmp_path / "prices.toml")


def test_only_nothing_is_shown_as_0_and_what_is_unknown_as_no_number():
    assert [usd(cost) for cost in (None, 0.0, 1e-9, 0.0026)] == [
        "unknown",
        "0 USD",
        "under 0.000001 USD",
        "0.002600 USD",
    ]
