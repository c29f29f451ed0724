"""What libraries are told through the environment before they are loaded; what the user set stays."""

import os

DEFAULTS = {
    # Threads that wait for each other spin for milliseconds by default. On a machine that is doing anything else
    # small products then run many times slower; a short spin costs little on a quiet one.
    "GOMP_SPINCOUNT": "1000",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def set_defaults() -> None:
    """Set what is not set; to be called before torch is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
