"""Write the YAML at the head of a card, by which the hub and the datasets library know a mix."""

import json
import re

from curate.store.mixes import MixLock
from schemas.names import UNKNOWN

HUB_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1
lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 pddl postgresql unlicense wtfpl zlib
"""
"""The ids of licenses that the hub takes: https://huggingface.co/docs/hub/repositories-licenses."""
OTHER_NAMES = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl", "gfdl-1.3": "gfdl"}
"""SPDX id -> what the hub calls it."""
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
"""Rows -> the size of what has fewer."""


def card_header(lock: MixLock) -> str:
    """The YAML block; texts that others chose are JSON, which is YAML as well."""
    files = "".join(f"  - split: {word}\n    path: {word}-*.parquet\n" for word in lock.split_words())
    license = "".join(f"{name}: {value}\n" for name, value in license_fields(lock.facts["license"]["license"]).items())
    lists = {
        "task_categories": ["text-generation"],
        "size_categories": [size_category(lock.rows)],
        "tags": mix_tags(lock),
    }
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}pretty_name: {json.dumps(lock.name)}\n{license}"
        + "".join(f"{name}:\n" + "".join(f"- {value}\n" for value in values) for name, values in lists.items())
        + "---\n"
    )


def license_fields(license: str) -> dict[str, str]:
    """The license as the hub takes it; what it does not know is `other` with a name."""
    told = re.sub(r"-(only|or-later)$", "", license.lower())
    told = OTHER_NAMES.get(told, told)
    if told in HUB_LICENSES.split() or told == UNKNOWN:
        return {"license": told}
    name = "several-licenses" if told == "other" else re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-.")
    return {"license": "other", "license_name": json.dumps(name)}


def size_category(rows: int) -> str:
    return next((size for limit, size in SIZES.items() if rows < limit), "10M<n<100M")


def mix_tags(lock: MixLock) -> list[str]:
    """Words that a mix is found by."""
    return [
        *("preference", "dpo", "rlhf", "pairwright"),
        *(["synthetic"] if lock.facts["origins"].get("synthetic") else []),
        *(["human-feedback"] if lock.facts["judged"] else []),
    ]
