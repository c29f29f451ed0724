"""Redirects, proxies and addresses of Azure, asked by the real command."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from four_prompts import write, written

from curate.models.resolve import resolve_scorer
from schemas.calls import Request


class Web:
    """A plain HTTP server of which a test decides everything, CONNECT and absolute addresses of a proxy included."""

    def __init__(self, act):
        self.seen = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
                headers = {name.lower(): value for name, value in self.headers.items()}
                web.seen.append((self.command, self.path, headers, body))
                status, headers, content = act(self.path, body)
                raw = json.dumps(content).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_CONNECT = do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web():
    started = []

    def start(act):
        started.append(Web(act))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A home whose netrc file has a password for every host."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".netrc").write_text("default login somebody password NETRC-SECRET\n")
    (folder / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(folder / ".netrc"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["{elsewhere}/chat/completions", "http://other.invalid/v1", "//127.0.0.1:{port}/login"])
def test_a_redirect_to_another_server_is_refused_and_gets_no_key(run, web, monkeypatch, status, to):
    monkeypatch.setenv("PAIRWRIGHT_API_KEY", "sk-of-mine-0123456789")
    elsewhere = web(lambda path, body: (200, {}, written(body)))
    there = to.format(elsewhere=elsewhere.url, port=elsewhere.port)
    server = web(lambda path, body: (status, {"Location": there}, {}))

    code, _, told = write(run, server)

    assert code == 2
    assert f"(HTTP {status}), another server, which gets no call and no key" in told
    assert elsewhere.seen == []
    assert "sk-of-mine" not in told


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_server_keeps_the_call_and_its_key(run, web, monkeypatch, status):
    monkeypatch.setenv("PAIRWRIGHT_API_KEY", "sk-of-mine-0123456789")
    server = web(
        lambda path, body: (
            (200, {}, written(body)) if path.startswith("/v2") else (status, {"Location": "/v2/chat"}, {})
        )
    )

    code, summary, _ = write(run, server)

    assert (code, summary["kept"]) == (0, 4)
    there = [seen for seen in server.seen if seen[1] == "/v2/chat"]
    assert [(method, headers["authorization"]) for method, _, headers, _ in there] == [
        ("POST", "Bearer sk-of-mine-0123456789")
    ] * 4
    assert all(body["messages"] for *_, body in there)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_lose_the_call_names_the_address_to_use(run, web, status):
    server = web(lambda path, body: (status, {"Location": "/api/v1/chat/completions?a=1"}, {}))

    code, _, told = write(run, server)

    assert code == 2
    assert f"redirects to http://127.0.0.1:{server.port}/api/v1/chat/completions (HTTP {status})" in told
    assert "name the address that it redirects to" in told


def test_a_server_that_redirects_in_a_circle_is_one_sentence(run, web):
    server = web(lambda path, body: (307, {"Location": path}, {}))

    code, _, told = write(run, server, "--concurrency", "1")

    assert (code, "redirects again and again" in told) == (2, True)
    assert len(server.seen) == 4


def test_the_proxy_of_the_environment_is_used_with_its_password_and_no_netrc(run, web, monkeypatch):
    proxy = web(lambda path, body: (200, {}, written(body)))
    monkeypatch.setenv("HTTP_PROXY", f"http://me:pw-of-mine@127.0.0.1:{proxy.port}")

    code, summary, told = run("--source", "gpt", "--flaws", "none", "--generator", "http://model.invalid/v1#m")

    assert (code, summary["kept"]) == (0, 4)
    assert {seen[1] for seen in proxy.seen} == {"http://model.invalid/v1/chat/completions"}
    assert all(seen[2]["proxy-authorization"].startswith("Basic ") for seen in proxy.seen)
    # the password of the netrc file goes nowhere, and the key is what the environment has: none
    assert all("authorization" not in seen[2] for seen in proxy.seen)
    assert "pw-of-mine" not in told


def test_a_key_goes_through_a_proxy_as_it_is(run, web, monkeypatch):
    monkeypatch.setenv("PAIRWRIGHT_API_KEY", "sk-of-mine-0123456789")
    proxy = web(lambda path, body: (200, {}, written(body)))
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")

    code, _, _ = run("--source", "gpt", "--flaws", "none", "--generator", "http://model.invalid/v1#m")

    assert code == 0
    assert {seen[2]["authorization"] for seen in proxy.seen} == {"Bearer sk-of-mine-0123456789"}


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_without_a_proxy(run, web, endpoint, monkeypatch, name):
    proxy = web(lambda path, body: (500, {}, {}))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    server = endpoint(lambda body: (200, written(body)))

    code, _, _ = run("--source", "gpt", "--flaws", "none", "--generator", f"{server.url.replace('127.0.0.1', name)}#m")

    assert (code, proxy.seen) == (0, [])


def test_a_host_of_no_proxy_is_asked_without_one(run, web, monkeypatch):
    proxy = web(lambda path, body: (200, {}, written(body)))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", ".invalid")

    code, _, told = run("--source", "gpt", "--flaws", "none", "--generator", "http://model.invalid/v1#m")

    assert code == 2
    assert "cannot connect to http://model.invalid/v1" in told
    assert proxy.seen == []


@pytest.mark.parametrize(("scheme", "status"), [("http", 407), ("https", 407), ("https", 403)])
def test_a_proxy_that_passes_nothing_on_is_named_without_its_password(run, web, monkeypatch, scheme, status):
    proxy = web(lambda path, body: (status, {}, {}))
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://me:pw-of-mine@127.0.0.1:{proxy.port}")

    code, _, told = run("--source", "gpt", "--flaws", "none", "--generator", f"{scheme}://model.invalid/v1#m")

    assert code == 2
    last = told.splitlines()[-1]
    assert (
        f"the proxy http://127.0.0.1:{proxy.port} of {scheme.upper()}_PROXY passes no call on (HTTP {status})" in last
    )
    assert "pw-of-mine" not in told


@pytest.mark.parametrize("there", ["127.0.0.1:9", "proxy.invalid:3128"])
def test_a_proxy_that_is_not_there_is_named_without_its_password(run, monkeypatch, there):
    monkeypatch.setenv("HTTP_PROXY", f"http://me:pw-of-mine@{there}")

    code, _, told = run("--source", "gpt", "--flaws", "none", "--generator", "http://model.invalid/v1#m")

    assert code == 2
    assert f"cannot connect to the proxy http://{there} of HTTP_PROXY (" in told
    assert "pw-of-mine" not in told


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://", "http://[::1"])
def test_a_proxy_of_another_kind_is_one_sentence(run, monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)

    code, _, told = run("--source", "gpt", "--flaws", "none", "--generator", "http://model.invalid/v1#m")

    assert code == 2
    assert "HTTP_PROXY names no http or https proxy" in told


AZURE = {
    "a deployment": (
        "http://x.openai.azure.com/openai/deployments/D?api-version=2024-10-21",
        "http://x.openai.azure.com/openai/deployments/D/chat/completions?api-version=2024-10-21",
    ),
    "v1": ("http://x.openai.azure.com/openai/v1/", "http://x.openai.azure.com/openai/v1/chat/completions"),
    "Foundry": (
        "http://x.services.ai.azure.com/models/?api-version=2024-05-01-preview",
        "http://x.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
    ),
    "a government": ("http://x.openai.azure.us/openai/v1", "http://x.openai.azure.us/openai/v1/chat/completions"),
}


@pytest.mark.parametrize(("address", "asked"), AZURE.values(), ids=AZURE)
def test_an_azure_address_keeps_its_query_and_gets_the_key_in_its_own_header(run, web, monkeypatch, address, asked):
    # The proxy stands for Azure.
    proxy = web(lambda path, body: (200, {}, written(body)))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-0123456789abcdef")
    monkeypatch.setenv("PAIRWRIGHT_API_KEY", "another-0123456789abcdef")

    code, summary, _ = run("--source", "gpt", "--flaws", "none", "--generator", f"{address}#gpt-4o")

    assert (code, summary["kept"]) == (0, 4)
    assert {seen[1] for seen in proxy.seen} == {asked}
    assert {(seen[2]["api-key"], seen[2].get("authorization")) for seen in proxy.seen} == {
        ("azure-0123456789abcdef", None)
    }
    assert summary["generator"] == f"{address.replace('/?', '?').rstrip('/')}#gpt-4o"


def test_an_azure_address_without_a_key_is_one_sentence(run):
    code, _, told = run("--source", "gpt", "--generator", "https://x.openai.azure.com/openai/v1#gpt-4o")

    assert code == 2
    assert "needs a key: set AZURE_OPENAI_API_KEY in the environment" in told


@pytest.mark.parametrize("key_name", ["AZURE_OPENAI_API_KEY", "PAIRWRIGHT_API_KEY"])
def test_a_gateway_before_azure_gets_the_key_there_is_as_azure_does(run, web, monkeypatch, key_name):
    monkeypatch.setenv(key_name, "gateway-0123456789abcdef")
    server = web(lambda path, body: (200, {}, written(body)))
    address = f"http://127.0.0.1:{server.port}/openai/deployments/D?api-version=2024-10-21"

    code, _, _ = run("--source", "gpt", "--flaws", "none", "--generator", f"{address}#m")

    assert code == 0
    path = "/openai/deployments/D/chat/completions?api-version=2024-10-21"
    assert {(seen[1], seen[2]["api-key"]) for seen in server.seen} == {(path, "gateway-0123456789abcdef")}


@pytest.mark.parametrize(
    "query",
    [
        "key=abc",
        "api-version=2024-10-21&subscription-key=abc",
        "sig=abc",
        "code=abc",
        "t=0123456789abcdef0123456789abcdef",
    ],
)
def test_a_query_that_may_hold_a_secret_is_refused_and_not_repeated(run, query):
    code, _, told = run("--source", "gpt", "--generator", f"https://x.openai.azure.com/openai/v1?{query}#m")

    assert code == 2
    assert "put no user name, password or query in the address of x.openai.azure.com" in told
    assert "a key belongs in the environment (AZURE_OPENAI_API_KEY)" in told
    assert query not in told


@pytest.mark.parametrize("query", ["", "?api-version=1"])
def test_a_reward_model_is_asked_at_the_root_of_its_server_with_the_query_kept(web, query):
    server = web(lambda path, body: (200, {}, {"data": [{"probs": [0.5]}]}))
    scorer = resolve_scorer(f"classify:{server.url}{query}#m")

    ((_, found),) = next(scorer.answer([Request("score", [{"role": "user", "content": "a"}])], {0}))

    assert found.values == (0.5,)
    assert [seen[1] for seen in server.seen] == [f"/classify{query}"]
