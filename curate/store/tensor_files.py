"""Tensors in a file that holds a digest of them and of its own place, so that none is read in the place of another."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curate.files import Damaged, write_atomically

if TYPE_CHECKING:
    import numpy as np


def write_tensors(path: Path, tensors: "Mapping[str, np.ndarray]") -> None:
    """Write what `read_tensors` reads."""
    from safetensors.numpy import save

    write_atomically(path, save(dict(tensors), {"sha256": hash_tensors(path, tensors)}))


def read_tensors(path: Path, remedy: str) -> "dict[str, np.ndarray]":
    """The tensors that were written here.

    Raises Damaged, with the `remedy`, for any others, and FileNotFoundError where there is no file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            seal = (file.metadata() or {}).get("sha256")
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, TypeError) as error:
        raise Damaged(f"{path} is not whole ({error})", remedy) from error
    if seal != hash_tensors(path, found):
        raise Damaged(f"{path} is not what was written here", remedy)
    return found


def hash_tensors(path: Path, tensors: "Mapping[str, np.ndarray]") -> str:
    """Of the folder and name of the file, and of each tensor's name, type, shape and values."""
    place = list(path.absolute().parts[-2:])
    hashed = hashlib.sha256(json.dumps(place).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        hashed.update(tensor.tobytes())
    return hashed.hexdigest()
