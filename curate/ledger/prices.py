"""Prices of paid models: the table that comes with pairwright, then the user's own."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.files import asset, read_toml
from schemas.errors import UserError
from schemas.ids import digest

FIELDS = ("input", "output", "aliases", "source", "checked")


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float


FREE = Price(0.0, 0.0)


@dataclass(frozen=True)
class Prices:
    """Prices by the name of the model, of one table and those that it comes before."""

    models: dict[str, Price]
    """A name ends in `*` where it stands for all names that begin like it."""
    aliases: dict[str, str]
    """Other name -> the name in `models`."""
    version: str
    """Date of the packaged table, then a digest of what the user's own tables say."""
    older: "Prices | None" = None
    """Asked about what this table does not list."""

    @classmethod
    def load(cls, override: Path | None, of_data: Path) -> "Prices":
        """The packaged table, then `of_data`, that of the data folder, then `override`; later ones win for each model.

        Raises UserError for an invalid table.
        """
        packaged = asset("prices.toml")
        prices = cls(*read_table(packaged))
        own = []
        # The data folder of a source checkout is where the packaged table lies.
        if of_data.exists() and not of_data.samefile(packaged):
            own.append(of_data)
        if override is not None:
            if not override.is_file():
                raise UserError(f"no price file {override}; give --prices a TOML file")
            own.append(override)
        told: list[Any] = []
        dated = prices.version
        for path in own:
            models, aliases, _ = read_table(path)
            told.append([{name: [price.input, price.output] for name, price in models.items()}, aliases])
            prices = cls(models, aliases, f"{dated}+{digest(told)[:8]}", prices)
        return prices

    def of(self, price_name: str | None) -> Price | None:
        """The price of a model: nothing for None, which runs on this machine; None where it is unknown.

        The newest table that lists it in any way decides. In a table a full name comes before a pattern, and a
        longer pattern before a shorter one; an alias stands for its model in every table.
        """
        if price_name is None:
            return FREE
        tables = list(self.newest_first())
        names = [price_name, *(table.aliases[price_name] for table in tables if price_name in table.aliases)]
        return next((price for table in tables if (price := table.find_price(names))), None)

    def newest_first(self) -> Iterator["Prices"]:
        """This table and those that it comes before."""
        table: Prices | None = self
        while table:
            yield table
            table = table.older

    def find_price(self, names: Sequence[str]) -> Price | None:
        """What this table alone says of a model by its own name and others that stand for it."""
        for name in names:
            if name in self.models:
                return self.models[name]
        patterns = [name for name in self.models if name.endswith("*") and names[0].startswith(name[:-1])]
        return self.models[max(patterns, key=len)] if patterns else None

    def cost(self, price_name: str | None, input_tokens: int, output_tokens: int) -> float | None:
        """USD for that many tokens; None where the price is unknown."""
        price = self.of(price_name)
        if price is None:
            return None
        return (input_tokens * price.input + output_tokens * price.output) / 1e6


def read_table(path: Path) -> tuple[dict[str, Price], dict[str, str], str]:
    """Prices, aliases and version of a TOML file of prices."""
    content = read_toml(path)
    if unknown := [name for name in content if name not in ("version", "models")]:
        raise UserError(f"{path}: unknown field '{unknown[0]}'; prices stand under [models.\"NAME\"]")
    listed = content.get("models", {})
    if not isinstance(listed, dict):
        raise UserError(f'{path}: prices stand under [models."NAME"]')
    models: dict[str, Price] = {}
    aliases: dict[str, str] = {}
    for model, entry in listed.items():
        where = f"{path}: model '{model}'"
        if not isinstance(entry, dict):
            raise UserError(f"{where} must have `input` and `output`, found {entry!r}")
        if unknown := [name for name in entry if name not in FIELDS]:
            raise UserError(f"{where}: unknown field '{unknown[0]}'; known: {', '.join(FIELDS)}")
        if "*" in model[:-1]:
            raise UserError(f"{where}: a * may stand only at the end")
        models[model] = Price(*(read_price(entry, name, where) for name in ("input", "output")))
        for alias in read_aliases(entry, where):
            if alias in aliases or alias in listed:
                raise UserError(f"{where}: the alias '{alias}' is also that of another model, or a model of its own")
            aliases[alias] = model
    return models, aliases, str(content.get("version", ""))


def read_price(entry: dict[str, Any], name: str, where: str) -> float:
    """A price of an entry, refused where it is none."""
    if name not in entry:
        raise UserError(f"{where} has no `{name}`, in USD per million tokens")
    value = entry[name]
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise UserError(f"{where}: `{name}` must be a number of USD per million tokens, 0 or more, found {value!r}")
    return float(value)


def read_aliases(entry: dict[str, Any], where: str) -> list[str]:
    """The other names of an entry."""
    aliases = entry.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) and "*" not in alias for alias in aliases):
        raise UserError(f"{where}: `aliases` must be a list of full names, found {aliases!r}")
    return aliases


def usd(cost: float | None) -> str:
    """A cost for people to read: an unknown cost is never shown as a number, and only no cost as 0."""
    if cost is None:
        return "unknown"
    if 0 < cost < 1e-6:
        return "under 0.000001 USD"
    return f"{cost:.6f} USD" if cost else "0 USD"
