"""Accounts of reviewers on a server, and their pseudonyms outside it."""

import secrets
from dataclasses import asdict, dataclass, field

from curate.review.answers import reviewer_id
from curate.review.argilla.client import ArgillaClient, connect
from curate.review.argilla.dataset import workspace_id
from curate.review.config import InviteConfig
from schemas.errors import UserError


def list_pseudonyms(server: ArgillaClient, workspace: str) -> set[str]:
    """Of everybody who could answer in a workspace, as far as the key may see them."""
    me = server.get("/me")
    # Only an owner may list all users; owners are in no workspace.
    path = "/users" if me["role"] == "owner" else f"/workspaces/{workspace}/users"
    return {reviewer_id(user["id"]) for user in [me, *server.get(path)["items"]]}


@dataclass(frozen=True)
class Invitation:
    """A new account, and where to use it."""

    url: str
    username: str
    password: str = field(repr=False)
    """Kept nowhere."""

    def summary(self) -> dict[str, str]:
        return asdict(self)

    def lines(self) -> list[str]:
        return [self.url, f"user name: {self.username}", f"password:  {self.password} (shown this once)"]


def invite(cfg: InviteConfig) -> Invitation:
    """Make an account for an annotator in the workspace. Raises UserError where the name is taken."""
    username = cfg.username.strip()
    if not username:
        raise UserError("a reviewer needs a name to sign in with")
    with connect(cfg) as server:
        if any(user["username"] == username for user in server.get("/users")["items"]):
            raise UserError(
                f"there is a user '{username}' on {server.url} already; choose another name "
                "(a lost password is set anew in Argilla)"
            )
        workspace = workspace_id(server, cfg.workspace)
        password = secrets.token_urlsafe(12)
        account = {"username": username, "first_name": username, "password": password, "role": "annotator"}
        user = server.create("/users", account)
        server.create(f"/workspaces/{workspace}/users", {"user_id": user["id"]})
        return Invitation(server.url, username, password)
