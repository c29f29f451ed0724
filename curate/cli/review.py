"""`curate review`: serve, invite, push, pull, status, export, import.

curate review push sft --records 200
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.flags import print_result
from curate.review.config import (
    ExportConfig,
    ImportConfig,
    InviteConfig,
    PullConfig,
    PushConfig,
    ServeConfig,
    StatusConfig,
)

if TYPE_CHECKING:
    from curate.review.collected import CollectedAnswers

ABOUT = "Send pairs for review, in Argilla or as a file, and use the answers."


def serve_command(cfg: ServeConfig, as_json: bool) -> int:
    from curate.review.server.serve import serve

    return serve(cfg, as_json)


def invite_command(cfg: InviteConfig, as_json: bool) -> int:
    from curate.review.argilla.accounts import invite

    return print_result(invite(cfg), as_json)


def push_command(cfg: PushConfig, as_json: bool) -> int:
    from curate.review.argilla.push import push

    return print_result(push(cfg), as_json)


def pull_command(cfg: PullConfig, as_json: bool) -> int:
    from curate.review.argilla.pull import pull

    return apply_and_print(cfg, pull(cfg), as_json)


def import_command(cfg: ImportConfig, as_json: bool) -> int:
    from curate.review.form.form import import_answers

    return apply_and_print(cfg, import_answers(cfg), as_json)


def apply_and_print(cfg: PullConfig | ImportConfig, collected: "CollectedAnswers", as_json: bool) -> int:
    """Screen the builds that the answers are about again, and print what came back."""
    from curate.review.apply import apply_verdicts

    applied = apply_verdicts(cfg.data, collected.name)
    return print_result(
        collected,
        as_json,
        *(one.line() for one in applied),
        f"estimates for the whole dataset: curate review status {collected.name}",
    )


def status_command(cfg: StatusConfig, as_json: bool) -> int:
    from curate.review.status import review_status

    return print_result(review_status(cfg), as_json)


def export_command(cfg: ExportConfig, as_json: bool) -> int:
    from curate.review.form.form import export_records

    return print_result(export_records(cfg), as_json)


COMMANDS: dict[str, tuple[type[Any], Callable[[Any, bool], int]]] = {
    "serve": (ServeConfig, serve_command),
    "invite": (InviteConfig, invite_command),
    "push": (PushConfig, push_command),
    "pull": (PullConfig, pull_command),
    "status": (StatusConfig, status_command),
    "export": (ExportConfig, export_command),
    "import": (ImportConfig, import_command),
}
