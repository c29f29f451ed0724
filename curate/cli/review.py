"""The commands of `curate review`."""

import logging
from collections.abc import Callable
from typing import Any

from curate.flags import print_json, print_lines, print_result
from curate.review.config import (
    ExportConfig,
    ImportConfig,
    InviteConfig,
    PullConfig,
    PushConfig,
    ServeConfig,
    StatusConfig,
)

log = logging.getLogger(__name__)

ABOUT = "Put pairs before people, in Argilla or in a file, and use what they say."


def serve_command(cfg: ServeConfig, as_json: bool) -> int:
    from curate.review.server.serve import serve

    return serve(cfg, as_json)


def invite_command(cfg: InviteConfig, as_json: bool) -> int:
    from curate.review.argilla.accounts import invite

    found = invite(cfg)
    if as_json:
        print_json(found)
    else:
        print(f"{found['url']}\nuser name: {found['username']}\npassword:  {found['password']} (shown this once)")
    return 0


def push_command(cfg: PushConfig, as_json: bool) -> int:
    from curate.review.argilla.push import push

    print_result(push(cfg), as_json)
    return 0


def pull_command(cfg: PullConfig, as_json: bool) -> int:
    from curate.review.argilla.pull import pull

    return print_and_apply(cfg.name, cfg, pull(cfg).summary(), as_json)


def import_command(cfg: ImportConfig, as_json: bool) -> int:
    from curate.review.form.form import import_answers

    summary = import_answers(cfg)
    return print_and_apply(summary["name"], cfg, summary, as_json)


def print_and_apply(name: str, cfg: PullConfig | ImportConfig, summary: dict[str, Any], as_json: bool) -> int:
    """Print what came back, and screen the builds it is about again."""
    from curate.review.apply import apply_verdicts

    applied = apply_verdicts(cfg.data, name)
    if as_json:
        print_json(summary)
        return 0
    verdicts = ", ".join(f"{rows} {verdict}" for verdict, rows in summary["verdicts"].items())
    came = (
        f"review '{name}': {summary['submitted']} answers submitted, {summary['drafts']} drafts, "
        f"{summary['discarded']} discarded; verdicts: {verdicts}; {summary['needs_review']} need review"
    )
    print_lines([came, *applied, f"what they say of the dataset: curate review status {name}"])
    return 0


def status_command(cfg: StatusConfig, as_json: bool) -> int:
    from curate.review.status import status, status_lines

    found = status(cfg)
    if as_json:
        print_json(found)
    else:
        print_lines(status_lines(found))
    return 0


def export_command(cfg: ExportConfig, as_json: bool) -> int:
    from curate.review.form.form import export

    summary = export(cfg)
    if as_json:
        print_json(summary)
    else:
        print_lines([f"review '{cfg.name}': {summary['records']} records in {summary['path']}"])
    return 0


COMMANDS: dict[str, tuple[type[Any], Callable[[Any, bool], int]]] = {
    "serve": (ServeConfig, serve_command),
    "invite": (InviteConfig, invite_command),
    "push": (PushConfig, push_command),
    "pull": (PullConfig, pull_command),
    "status": (StatusConfig, status_command),
    "export": (ExportConfig, export_command),
    "import": (ImportConfig, import_command),
}
