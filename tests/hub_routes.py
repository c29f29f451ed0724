"""The state of a hub of datasets, and what each address of its HTTP API answers.

Repositories are private or public, hold branches of commits, and store files by the rules of git and of LFS.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

LFS_FROM = 10 * 2**20
"""Larger files go by LFS, and those of `LFS_NAMES` whatever their size."""
LFS_NAMES = (".parquet", ".arrow", ".bin")
Reply = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Request:
    """A request that came in, without the token it came with."""

    method: str
    path: str
    """As it was sent, without its query."""
    headers: dict[str, str]
    body: bytes
    """Of an upload, its length as text."""
    user: str | None
    """Who the token belongs to."""
    is_private: bool | None
    """Of the repository, once the request was answered; None where there is none."""


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    content: bytes
    is_lfs: bool

    def entry(self, path: str) -> dict[str, Any]:
        """It as a listing has it."""
        found = {"type": "file", "path": path, "size": len(self.content), "oid": git_oid(self.content)}
        if self.is_lfs:
            found["lfs"] = {"oid": sha256(self.content), "size": len(self.content), "pointerSize": 130}
            found["oid"] = git_oid(sha256(self.content).encode())
        return found

    @property
    def etag(self) -> str:
        return sha256(self.content) if self.is_lfs else git_oid(self.content)


@dataclass
class Repo:
    """A repository."""

    is_private: bool
    branches: dict[str, str]
    """Branch -> commit."""
    commits: dict[str, dict[str, File]]
    """Commit -> path -> file."""

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.branches.get(revision, revision)]

    def commit(self, branch: str, files: dict[str, File]) -> str:
        tree = "".join(f"{path} {file.etag}\n" for path, file in sorted(files.items()))
        sha = hashlib.sha1(f"{self.branches.get(branch)} {len(self.commits)}\n{tree}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        return sha


@dataclass
class Hub:
    """The hub's state, and what a test decides."""

    tokens: dict[str, tuple[str, bool]]
    """Token -> the user, who owns a namespace, and whether the token may write."""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """LFS objects, by digest."""
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    cuts: Callable[[str, str], bool] = lambda method, path: False
    """Method and path -> whether the connection breaks in the middle of the content."""
    failing: Callable[[str, str], int] = lambda method, path: 0
    """Method and path -> the status of an error that is answered; 0 for none."""
    part_bytes: int | None = None
    """Larger LFS objects are to come in parts of so many bytes."""
    url: str = ""

    def paths(self, method: str) -> list[str]:
        """The paths that were asked for with a method, in their order."""
        return [request.path for request in self.log if request.method == method]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply: Reply = (status, headers, json.dumps({"error": message}).encode())


@dataclass
class Asked:
    """One request and what it is answered."""

    hub: Hub
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes | None
    repo_id: str | None = None
    user: str | None = None
    can_write: bool = False

    def reply(self) -> Reply:
        """Status, headers and content, by the first route that the path is of."""
        try:
            self.know_user()
            if status := self.hub.failing(self.method, self.path):
                raise Refused(status, "Not now")
            for method, pattern, route in ROUTES:
                if self.method in method.split() and (match := re.fullmatch(pattern, self.path)):
                    if "repo" in match.groupdict():
                        self.repo_id = match["repo"]
                    return route(self, **{n: unquote(value) for n, value in match.groupdict().items() if n != "repo"})
            raise Refused(404, f"no such address: {self.path}")
        except Refused as error:
            return error.reply

    def know_user(self) -> None:
        given = next((value for name, value in self.headers.items() if name.lower() == "authorization"), None)
        if given is None:
            return
        if (token := given.removeprefix("Bearer ")) not in self.hub.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        self.user, self.can_write = self.hub.tokens[token]

    def repo(self, writes: bool = False) -> Repo:
        """The repository, where the user may see it."""
        owner, found = str(self.repo_id).partition("/")[0], self.hub.repos.get(str(self.repo_id))
        if found is None or (found.is_private and owner != self.user):
            if self.user is None:
                raise Refused(401, "Invalid username or password.")
            raise Refused(404, "Repository not found", "RepoNotFound")
        if writes:
            self.refuse_reader(owner)
        return found

    def refuse_reader(self, owner: str) -> None:
        if self.user is None:
            raise Refused(401, "Invalid username or password.")
        if not self.can_write or owner != self.user:
            raise Refused(403, f"You don't have the rights to write under the namespace {owner}")

    def sent(self) -> Any:
        return json.loads(self.body or b"{}")

    def who(self) -> Reply:
        if self.user is None:
            raise Refused(401, "Invalid username or password.")
        role = "write" if self.can_write else "read"
        return as_json({"name": self.user, "type": "user", "auth": {"accessToken": {"role": role}}})

    def create(self) -> Reply:
        asked = self.sent()
        owner = asked.get("organization") or self.user
        self.refuse_reader(str(owner))
        repo_id = f"{owner}/{asked['name']}"
        if repo_id in self.hub.repos:
            raise Refused(409, "You already created this dataset repo")
        self.repo_id = repo_id
        made = Repo(asked.get("visibility") == "private" or bool(asked.get("private")), {}, {})
        made.commit("main", {".gitattributes": File(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n", False)})
        self.hub.repos[repo_id] = made
        return as_json({"url": f"{self.hub.url}/datasets/{repo_id}", "name": repo_id, "id": repo_id})

    def validate(self) -> Reply:
        if not self.sent()["content"].startswith("---\n"):
            raise Refused(400, "no metadata in README.md")
        return as_json({"errors": [], "warnings": []})

    def info(self, revision: str = "main") -> Reply:
        repo, sha = self.at(revision)
        siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
        found = {"id": self.repo_id, "sha": sha, "private": repo.is_private, "siblings": siblings, "tags": []}
        return as_json({**found, "disabled": False, "gated": False, "downloads": 0, "likes": 0})

    def at(self, revision: str) -> tuple[Repo, str]:
        repo = self.repo()
        if (sha := repo.commit_of(revision)) is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, sha

    def refs(self) -> Reply:
        branches = self.repo().branches.items()
        found = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in branches]
        return as_json({"branches": found, "tags": [], "converts": []})

    def branch(self, name: str) -> Reply:
        repo = self.repo(writes=True)
        if name in repo.branches:
            raise Refused(409, f"Reference already exists: {name}")
        start = self.sent().get("startingPoint", "main")
        if (sha := repo.commit_of(start)) is None:
            raise Refused(404, f"Invalid rev id: {start}", "RevisionNotFound")
        repo.branches[name] = sha
        return as_json({})

    def tree(self, revision: str) -> Reply:
        repo, sha = self.at(revision)
        return as_json([file.entry(path) for path, file in sorted(repo.commits[sha].items())])

    def paths_info(self, revision: str) -> Reply:
        repo, sha = self.at(revision)
        text = (self.body or b"").decode()
        paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        return as_json([repo.commits[sha][path].entry(path) for path in paths if path in repo.commits[sha]])

    def preupload(self, revision: str) -> Reply:
        self.repo(writes=True)
        repo, sha = self.at(revision)
        files = []
        for asked in self.sent()["files"]:
            is_lfs = asked["path"].endswith(LFS_NAMES) or asked["size"] > LFS_FROM
            there = repo.commits[sha].get(asked["path"])
            told = {"uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            files.append({"path": asked["path"], **told, "oid": there.etag if there else None})
        return as_json({"files": files})

    def batch(self) -> Reply:
        self.repo(writes=True)
        return as_json({"transfer": "basic", "objects": [self.to_send(each) for each in self.sent()["objects"]]})

    def to_send(self, each: dict[str, Any]) -> dict[str, Any]:
        """Where an object is to go; nothing for one that is there."""
        oid, size, url = each["oid"], each["size"], self.hub.url
        if oid in self.hub.objects:
            return each
        upload: dict[str, Any] = {"href": f"{url}/lfs/{oid}"}
        if self.hub.part_bytes and size > self.hub.part_bytes:
            count = -(-size // self.hub.part_bytes)
            places = {f"{part:05d}": f"{url}/lfs/{oid}/{part}" for part in range(1, count + 1)}
            upload = {"href": f"{url}/{self.repo_id}/lfs-done/{oid}", "header": places}
            upload["header"]["chunk_size"] = str(self.hub.part_bytes)
        verify = {"href": f"{url}/{self.repo_id}/lfs-verify"}
        return {**each, "actions": {"upload": upload, "verify": verify}}

    def put(self, oid: str) -> Reply:
        if sha256(self.body or b"") != oid:
            raise Refused(400, "the content is not that of the digest")
        self.hub.objects[oid] = self.body or b""
        return as_json({})

    def put_part(self, oid: str, part: str) -> Reply:
        self.hub.parts.setdefault(oid, {})[int(part)] = self.body or b""
        return 200, {"ETag": f'"{oid[:8]}-{part}"'}, b""

    def join_parts(self, oid: str) -> Reply:
        parts = self.hub.parts.pop(oid)
        self.body = b"".join(parts[each["partNumber"]] for each in self.sent()["parts"])
        return self.put(oid)

    def verify(self) -> Reply:
        asked = self.sent()
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(404, "the object did not arrive")
        return as_json({})

    def commit(self, revision: str) -> Reply:
        repo = self.repo(writes=True)
        lines = [json.loads(line) for line in (self.body or b"").splitlines()]
        head = repo.branches.get(revision)
        if head is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = dict(repo.commits[head])
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", head) != head:
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            if line["key"] == "deletedFile":
                del files[value["path"]]
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            if line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refused(400, f"no object {value['oid']}")
                files[value["path"]] = File(self.hub.objects[value["oid"]], True)
        sha = repo.commit(revision, files)
        return as_json({"commitUrl": f"{self.hub.url}/datasets/{self.repo_id}/commit/{sha}", "commitOid": sha})

    def resolve(self, revision: str, name: str) -> Reply:
        repo, sha = self.at(revision)
        if (file := repo.commits[sha].get(name)) is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        ranged = next((value for key, value in self.headers.items() if key.lower() == "range"), None)
        if ranged is None or not (match := re.fullmatch(r"bytes=(\d+)-(\d*)", ranged)):
            return 200, {**headers, "Content-Length": str(len(file.content))}, file.content
        start, size = int(match[1]), len(file.content)
        end = min(int(match[2] or size - 1), size - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return 206, headers, file.content[start : end + 1]


REPO = r"/api/datasets/(?P<repo>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+|refs/[^/]+/[^/]+)"
ROUTES: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
    ("GET", "/api/whoami-v2", Asked.who),
    ("POST", "/api/repos/create", Asked.create),
    ("POST", "/api/validate-yaml", Asked.validate),
    ("GET", REPO, Asked.info),
    ("GET", f"{REPO}/revision/{REVISION}", Asked.info),
    ("GET", f"{REPO}/refs", Asked.refs),
    ("POST", f"{REPO}/branch/(?P<name>.+)", Asked.branch),
    ("GET", f"{REPO}/tree/{REVISION}", Asked.tree),
    ("POST", f"{REPO}/paths-info/{REVISION}", Asked.paths_info),
    ("POST", f"{REPO}/preupload/{REVISION}", Asked.preupload),
    ("POST", f"{REPO}/commit/{REVISION}", Asked.commit),
    ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Asked.batch),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)/lfs-done/(?P<oid>\w+)", Asked.join_parts),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)/lfs-verify", Asked.verify),
    ("PUT", r"/lfs/(?P<oid>\w+)", Asked.put),
    ("PUT", r"/lfs/(?P<oid>\w+)/(?P<part>\d+)", Asked.put_part),
    ("GET HEAD", rf"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/{REVISION}/(?P<name>.+)", Asked.resolve),
)
"""Method, pattern of the path and what answers it."""


def as_json(value: Any) -> Reply:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
