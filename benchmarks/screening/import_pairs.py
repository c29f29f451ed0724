"""The first stage of a build by itself, so that a build that follows has only the screening left to do.

Usage: import_pairs.py FILE DATA
"""

import json
import sys
from pathlib import Path

from curate.config import BuildConfig
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config
from curate.store.session import open_session
from schemas.stages import StageName
from schemas.tables import Pair


def main() -> None:
    """Print the number of rows as a JSON object."""
    path, data = sys.argv[1:]
    rows = rows_config(path, None, BuildConfig(source=path).seed)
    with open_session(Path(data)) as session:
        table = session.store.read(StageName.READ_PAIRS, read_pairs, rows, writes=Pair)
    print(json.dumps({"rows": table.rows}))


if __name__ == "__main__":
    main()
