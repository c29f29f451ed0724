"""Card of a mix: the README.md of its folder, which tells the datasets library which files are which split."""

from curate.store.mixes import WORDS, MixLock


def write_card(lock: MixLock) -> str:
    """The card of a mix, from its lock alone."""
    files = "".join(
        f"  - split: {word}\n    path: {word}-*.parquet\n" for split, word in WORDS.items() if getattr(lock, split)
    )
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\n# {lock.name}\n"
