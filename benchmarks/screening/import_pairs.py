"""The first stage of a build by itself, so that a build that follows has only the screening left to do.

Usage: import_pairs.py FILE DATA
"""

import json
import sys
from pathlib import Path

from curate.config import BuildConfig
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config
from curate.store.store import Store
from schemas.tables import Pair


def main() -> None:
    """Print the number of rows as a JSON object."""
    path, data = sys.argv[1:]
    with Ledger(Path(data) / "ledger.sqlite") as ledger:
        rows = rows_config(path, None, BuildConfig(source=path).seed)
        table = Store(Path(data), Recorder(ledger)).read(read_pairs, rows, writes=Pair)
    print(json.dumps({"rows": table.rows}))


if __name__ == "__main__":
    main()
