"""The first stage of a build by itself, so that a build that follows has only the screening left to do.

Usage: import_pairs.py FILE DATA
"""

import json
import sys
from dataclasses import fields
from pathlib import Path

from curate.config import BuildConfig
from curate.pipeline.imports import ImportConfig, import_pairs
from curate.sources.rows import RowsConfig, rows_config
from curate.store.session import open_session
from schemas.stages import StageName
from schemas.tables import Pair


def main() -> None:
    """Print the number of rows as a JSON object."""
    path, data = sys.argv[1:]
    rows = rows_config(path, None, BuildConfig(source=path).seed)
    with open_session(Path(data)) as session:
        cfg = ImportConfig(**{field.name: getattr(rows, field.name) for field in fields(RowsConfig)})
        table = session.store.read(StageName.READ_PAIRS, import_pairs, cfg, writes=Pair)
    print(json.dumps({"rows": table.rows}))


if __name__ == "__main__":
    main()
