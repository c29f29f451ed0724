"""Describe a mix to machines: `croissant.json`, in the format Croissant 1.0 with its fields of responsible AI.

Specifications: https://docs.mlcommons.org/croissant/docs/croissant-spec.html and .../croissant-rai-spec.html. Like the
card it follows from the lock alone, so it has no date of publication.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import dataframely as dy

from curate.mix.card.known_limits import known_limits, label_limits, length_limits, personal_limits
from curate.store.mixes import LINEAGE, MixLock
from schemas.tables import MixLineage, MixRow

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that readers of Croissant expect, word for word."""
PARQUET = "application/x-parquet"
MESSAGES = ("prompt", "chosen", "rejected")
"""Columns of `MixRow` that are lists of messages."""
DATA_TYPES = {"Float64": "sc:Float", "UInt32": "sc:Integer"}
"""Type of a column -> type of a field; all others are texts."""


def write_croissant(lock: MixLock, citation: str) -> str:
    """The text of `croissant.json`."""
    value = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": lock.name,
        "description": f"{lock.rows} pairs of a preferred and a worse response to one prompt, {lock.train} to train "
        f"language models on and {lock.heldout} held out; made with pairwright.",
        "license": license_value(lock.facts["license"]["license"]),
        "version": f"1.0.0+{lock.sha256[:12]}",
        "citeAs": citation,
        "keywords": ["preference", "dpo", "language model"],
        **responsible_ai(lock),
        "distribution": distribution(lock),
        "recordSet": [*[pair_records(word) for word in lock.split_words()], lineage_records()],
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def license_value(license: str) -> str:
    """The page of an SPDX license, any other as it is."""
    is_spdx = re.fullmatch(r"[A-Za-z0-9.+-]+", license) and not license.startswith("LicenseRef")
    return f"https://spdx.org/licenses/{license}.html" if is_spdx and license not in ("other", "unknown") else license


def distribution(lock: MixLock) -> list[dict[str, Any]]:
    """Each file with its digest, and the files of each split together, since there may be several."""
    files = [
        {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": PARQUET}
        | {"sha256": lock.files[name]}
        for name in lock.data_files()
    ]
    sets = [
        {"@type": "cr:FileSet", "@id": f"{word}-files", "name": f"{word}-files", "encodingFormat": PARQUET}
        | {"includes": f"{word}-*.parquet"}
        for word in lock.split_words()
    ]
    return [*files, *sets]


def pair_records(word: str) -> dict[str, Any]:
    """The rows of a split."""
    source = {"fileSet": {"@id": f"{word}-files"}}
    fields = [
        message_field(word, name, source) if name in MESSAGES else plain_field(word, name, column, source)
        for name, column in MixRow.columns().items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": word,
        "name": word,
        "description": "Pairs to train on." if word == "train" else "Pairs that are held out.",
        "key": {"@id": f"{word}/pair_id"},
        "field": fields,
    }


def lineage_records() -> dict[str, Any]:
    """The rows of the sidecar."""
    source = {"fileObject": {"@id": LINEAGE}}
    return {
        "@type": "cr:RecordSet",
        "@id": "lineage",
        "name": "lineage",
        "description": "What is known of each pair beside its row: flags, verdicts, calls and reasoning.",
        "key": {"@id": "lineage/pair_id"},
        "field": [plain_field("lineage", name, column, source) for name, column in MixLineage.columns().items()],
    }


def message_field(records: str, name: str, source: Mapping[str, Any]) -> dict[str, Any]:
    """A list of messages, with a field for each part of one."""
    parts = [
        {"@type": "cr:Field", "@id": f"{records}/{name}/{part}", "name": part, "dataType": "sc:Text"}
        | {"source": {**source, "extract": {"column": name}, "transform": {"jsonPath": part}}}
        for part in ("role", "content")
    ]
    return {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "repeated": True, "subField": parts}


def plain_field(records: str, name: str, column: dy.Column, source: Mapping[str, Any]) -> dict[str, Any]:
    """A column of single values, or of a list of texts."""
    data_type = DATA_TYPES.get(type(column).__name__, "sc:Text")
    field = {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "dataType": data_type}
    repeated = {"repeated": True} if isinstance(column, dy.List) else {}
    return {**field, **repeated, "source": {**source, "extract": {"column": name}}}


def responsible_ai(lock: MixLock) -> dict[str, Any]:
    """The fields of the RAI vocabulary, from the facts of the mix."""
    sources = lock.facts["sources"]
    models = {told[role]["model"] for told in sources.values() for role in ("generator", "scorer") if told[role]}
    is_synthetic = "synthetic" in lock.facts["origins"]
    values = {
        "dataCollection": "; ".join(collection(name, told) for name, told in sources.items()) + ".",
        "dataCollectionType": ["Secondary Data Analysis", *(["Software Collection"] if is_synthetic else [])],
        "dataPreprocessingProtocol": [preprocessing(name, told) for name, told in sources.items()],
        "dataAnnotationProtocol": "; ".join(annotation(name, told) for name, told in sources.items()) + ".",
        "annotationsPerItem": f"{lock.facts['judged']} of {lock.rows} pairs were judged by one person or more.",
        "machineAnnotationTools": sorted(models),
        "dataBiases": without_code([*label_limits(lock), *length_limits(lock)]),
        "dataLimitations": without_code(known_limits(lock)),
        "personalSensitiveInformation": without_code(personal_limits(lock))
        or ["No e-mail address, phone number, card number, IP address or key was found by its form in the pairs."],
        "dataUseCases": ["Training language models on preferences, as with DPO, and training reward models."],
    }
    return {f"rai:{name}": value for name, value in values.items() if value}


def collection(name: str, told: Mapping[str, Any]) -> str:
    """Where the rows of a source come from."""
    if generator := told["generator"]:
        return f"{name}: responses of the model {generator['model']} to prompts of {told['from']}"
    return f"{name}: pairs of {told['from']}"


def preprocessing(name: str, told: Mapping[str, Any]) -> str:
    """What screening left of a source."""
    dropped = ", ".join(f"{reason} {rows}" for reason, rows in told["dropped"].items())
    return f"{name}: {told['kept']} of {told['rows_in']} rows passed screening" + (
        f" (dropped: {dropped})" if dropped else ""
    )


def annotation(name: str, told: Mapping[str, Any]) -> str:
    """Who says which response of a pair is the better one."""
    scorer = f"labels by the scorer {told['scorer']['model']}" if told["scorer"] else ""
    labels = {
        "sampled": scorer,
        "written": "the model that wrote both responses put a flaw into the rejected one",
        "imported": "labels as they came with the pairs",
    }[told["made"]]
    review = told["review"]
    return f"{name}: {labels}" + (
        f", {review['judged']} pairs judged by {review['reviewers']} people" if review else ""
    )


def without_code(sentences: list[str]) -> list[str]:
    return [sentence.replace("`", "") for sentence in sentences]
