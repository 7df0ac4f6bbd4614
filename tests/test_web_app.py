"""The sample web application in a real browser: a person signs in at a real OpenID provider and talks to an agent.

The page, the provider and the server are three origins, so everything here also passes the browser's own CORS checks.
"""

import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest
from conftest import EXAMPLES, PYTHON, Server, sandbox_leftovers
from oidc import AGENTS, OTHER, WEB, Provider, oauth_environment, protect
from playwright.sync_api import expect, sync_playwright

SESSION = "x-amzn-bedrock-agentcore-runtime-session-id"
EXPECTED_SECONDS = 20
expect.set_options(timeout=EXPECTED_SECONDS * 1000)

# Keeps each state of the last answer, with its time in milliseconds.
WATCH = """() => {
  window.grown = [];
  new MutationObserver(() => {
    const text = document.querySelector('#conversation > :last-child.agent .text')?.textContent;
    if (text && text !== grown.at(-1)?.[1]) grown.push([performance.now(), text]);
  }).observe(document.getElementById('conversation'), {subtree: true, childList: true, characterData: true});
}"""


class Site(ThreadingHTTPServer):
    """Serves the application as any file server does, with the test's own config.json."""

    daemon_threads = True

    def __init__(self):
        self.config = {}
        super().__init__(("127.0.0.1", 0), partial(Files, directory=EXAMPLES / "web-app"))
        self.origin = f"http://localhost:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != "/config.json":
            return super().do_GET()
        body = json.dumps(self.server.config).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Site, provider and server, with an agent for bearers (`arn`) and one for signed requests (`signed_arn`)."""
    site = Site()
    public = {
        "token_endpoint_auth_method": "none", "redirect_uris": [f"{site.origin}/"],
        "post_logout_redirect_uris": [f"{site.origin}/"],
    }
    provider = Provider(clients=[
        public | {"client_id": "web-app", "grant_types": ["authorization_code", "refresh_token"]},
        public | {"client_id": "web-app-once", "grant_types": ["authorization_code"]},
    ])
    server = Server(tmp_path_factory.mktemp("web") / "data", env=oauth_environment(origins=[site.origin]))
    try:
        provider.start()
        server.start()
        done = server.cli("deploy", str(EXAMPLES / "python-agent"), "--name", "signed_agent", "--runtime", PYTHON)
        signed_arn = re.search(r"arn:aws:bedrock-agentcore:\S+", done.stdout).group(0).rstrip("'\",")
        arn = protect(server, signed_arn, "web_agent", provider, allowedAudience=[AGENTS])
        yield SimpleNamespace(site=site, provider=provider, server=server, arn=arn, signed_arn=signed_arn)
    finally:
        code = server.stop()
        provider.stop()
        site.shutdown()
        site.server_close()
    assert code == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


@pytest.fixture(scope="module")
def browser():
    """Chromium as `cargo xtask test` unpacked it, or the machine's own where there is none for its processor."""
    home = WEB / "chromium"
    packaged = (home / "chromium").exists()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=home / "chromium" if packaged else "chromium",
            env={"LD_LIBRARY_PATH": str(home / "al2023/lib"), "FONTCONFIG_PATH": str(home / "fonts")} if packaged else None,
            # Its sandbox does not start as root. No name is looked up: what is not on loopback fails at once.
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"],
            timeout=60_000,
        )
        yield chromium
        chromium.close()


class Visitor:
    """A person with a browser profile of their own."""

    def __init__(self, stage, browser):
        self.stage = stage
        self.context = browser.new_context()
        self.context.set_default_timeout(EXPECTED_SECONDS * 1000)
        self.page = self.context.new_page()
        self.requests = []
        self.spoken_to = set()  # by the application's own pages
        self.console = []
        self.context.on("request", self.note)
        self.context.on("console", lambda message: self.console.append(message.text))
        self.log = self.page.get_by_role("log")
        self.alert = self.page.get_by_role("alert")
        self.message = self.page.get_by_label("Message")

    def note(self, request):
        self.requests.append(request)
        if request.frame.url.startswith(self.stage.site.origin):
            self.spoken_to.add(urlsplit(request.url)._replace(path="", query="").geturl())

    def visit(self, **config):
        """Opens the application; what is not given is as it should be."""
        self.stage.site.config = {
            "endpoint": self.stage.server.url, "agentRuntimeArn": self.stage.arn, "issuer": self.stage.provider.issuer,
            "clientId": "web-app", "resource": AGENTS,
        } | config
        self.page.goto(self.stage.site.origin)
        return self

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def sign_in(self, name="maria"):
        self.button("Sign in").click()
        return self.fill_in(name)

    def fill_in(self, name):
        """The provider's own forms: who are you, and may this application know it?"""
        self.page.get_by_placeholder("Enter any login").fill(name)
        self.page.get_by_placeholder("and password").fill("any")
        self.button("Sign-in").click()
        self.button("Continue").click()
        expect(self.page.get_by_text(f"Signed in as {name}")).to_be_visible()
        return self

    def say(self, text):
        self.message.fill(text)
        self.message.press("Enter")

    def answered(self, text):
        """Says it; answers the agent's whole answer."""
        before = self.log.locator(".agent").count()
        self.say(text)
        expect(self.log.locator(".agent")).to_have_count(before + 1)
        last = self.log.locator(".agent").last
        expect(last).not_to_have_attribute("aria-busy", "true")
        return last.locator(".text").inner_text()

    def calls(self):
        """The invocations that the page sent."""
        return [r for r in self.requests if r.method == "POST" and "/invocations?" in r.url]

    def asked_provider(self, path):
        """The parameters of the page's requests to a path of the provider."""
        asked = [r for r in self.requests if r.url.split("?")[0] == self.stage.provider.issuer + path]
        return [dict(parse_qsl(urlsplit(r.url).query or r.post_data or "")) for r in asked]


@pytest.fixture
def visitor(stage, browser):
    person = Visitor(stage, browser)
    yield person
    # Shown with a failure; a test that passes shows no output.
    print(f"page {person.page.url}\n{person.page.locator('body').inner_text()}")
    print("console:", *person.console, sep="\n")
    print(f"server:\n{stage.server.stderr_text()}")
    person.context.close()


def test_signs_in_with_pkce_streams_and_keeps_the_conversation(stage, visitor):
    visitor.visit().sign_in()
    assert visitor.page.url == f"{stage.site.origin}/", "the code is still in the address"
    [asked] = [asked for asked in visitor.asked_provider("/auth") if "response_type" in asked]
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    [exchange] = visitor.asked_provider("/token")
    assert exchange["grant_type"] == "authorization_code" and len(exchange["code_verifier"]) >= 43
    assert "client_secret" not in exchange

    visitor.page.evaluate(WATCH)
    words = [f"word{n}" for n in range(30)]
    assert visitor.answered("stream " + " ".join(words)).split() == words
    grown = visitor.page.evaluate("grown")
    assert all(" ".join(words).startswith(text.strip()) for _, text in grown) and len(grown) > 10, grown
    assert grown[-1][0] - grown[0][0] > 700, "it was shown all at once"

    assert json.loads(visitor.answered("remember I like rivers"))["told"] == 1
    assert json.loads(visitor.answered("recall"))["memory"] == ["I like rivers"]
    visitor.page.reload()
    expect(visitor.log.locator(".user .text")).to_have_text([re.compile("^stream"), "remember I like rivers", "recall"])
    expect(visitor.log.locator(".agent .text").first).to_have_text(" ".join(words))
    assert json.loads(visitor.answered("recall"))["memory"] == ["I like rivers"]
    assert len({call.headers[SESSION] for call in visitor.calls()}) == 1

    with visitor.page.expect_response(re.compile("/stopruntimesession[?]")) as stopped:
        visitor.button("New conversation").click()
    assert stopped.value.status == 200, stopped.value.text()
    expect(visitor.log.locator(".text")).to_have_count(0)
    assert json.loads(visitor.answered("recall"))["memory"] == []
    assert len({call.headers[SESSION] for call in visitor.calls()}) == 2

    for call in visitor.calls():
        sent = call.all_headers()
        assert sent["authorization"].startswith("Bearer ey") and sent["content-type"] == "application/json"
        assert sent["origin"] == stage.site.origin and parse_qs(urlsplit(call.url).query) == {"qualifier": ["DEFAULT"]}
    assert visitor.spoken_to <= {stage.site.origin, stage.provider.issuer, stage.server.url, "data:"}


def test_an_answer_can_be_stopped(visitor):
    visitor.visit().sign_in()
    visitor.say("stream " + " ".join(f"word{n}" for n in range(400)))
    expect(visitor.log.locator(".agent .text")).to_contain_text("word2 ")
    visitor.button("Stop").click()
    expect(visitor.log.locator(".agent")).not_to_have_attribute("aria-busy", "true")
    expect(visitor.alert).to_be_hidden()
    assert visitor.answered("hello") == "You said: hello"


def test_a_token_that_ended_is_renewed_unnoticed(visitor):
    visitor.page.clock.install()
    visitor.visit().sign_in()
    visitor.answered("remember this")
    visitor.page.clock.fast_forward("59:58")
    assert json.loads(visitor.answered("recall"))["memory"] == ["this"]
    assert [asked["grant_type"] for asked in visitor.asked_provider("/token")] == ["authorization_code", "refresh_token"]
    first, second = visitor.calls()
    assert first.headers["authorization"] != second.headers["authorization"]


def test_a_token_that_ended_leads_to_a_new_sign_in(visitor):
    """Without a refresh token. While the provider knows the person, nobody types anything; after that, its form comes."""
    visitor.page.clock.install()
    visitor.visit(clientId="web-app-once").sign_in()
    visitor.answered("remember this")
    visitor.page.clock.fast_forward("59:58")
    visitor.say("recall")
    expect(visitor.log.locator(".agent .text").last).to_contain_text('"this"')
    expect(visitor.log.locator(".user .text")).to_have_text(["remember this", "recall"])

    visitor.context.clear_cookies()
    visitor.page.clock.fast_forward("59:58")
    visitor.say("hello again")
    visitor.fill_in("maria")
    expect(visitor.log.locator(".agent .text").last).to_have_text("You said: hello again")
    assert [asked["grant_type"] for asked in visitor.asked_provider("/token")] == ["authorization_code"] * 3
    assert len({call.headers[SESSION] for call in visitor.calls()}) == 1, "a new sign-in began a new conversation"


def test_a_token_for_somebody_else_is_refused_with_the_reason(visitor):
    """The reason is the server's; the page tries one new token and does not go round in circles."""
    visitor.visit(resource=OTHER).sign_in()
    visitor.say("hello")
    expect(visitor.alert).to_contain_text("(401)")
    expect(visitor.alert).to_contain_text("Claim 'aud' value mismatch with configuration.")
    expect(visitor.message).to_have_value("hello")
    expect(visitor.log.locator(".text")).to_have_count(0)
    assert len(visitor.calls()) == 2


def test_a_refused_token_without_renewal_is_asked_for_again(visitor):
    visitor.visit(clientId="web-app-once").sign_in()
    visitor.page.evaluate("sessionStorage.setItem('login.tokens', sessionStorage.getItem('login.tokens').replace(/ey/, 'xy'))")
    visitor.say("hello")
    expect(visitor.alert).to_contain_text("(401): OAuth authorization failed")
    assert len(visitor.calls()) == 1
    visitor.button("Sign in again").click()
    expect(visitor.log.locator(".agent .text")).to_have_text("You said: hello")
    expect(visitor.alert).to_be_hidden()


def test_other_failures_are_shown(stage, visitor):
    visitor.visit(agentRuntimeArn=stage.signed_arn).sign_in()
    visitor.say("hello")
    expect(visitor.alert).to_contain_text("(403): Authorization method mismatch.")
    expect(visitor.button("Sign in again")).to_be_hidden()
    visitor.visit()
    visitor.say("fail")
    expect(visitor.alert).to_contain_text("The agent failed (424): ")
    expect(visitor.alert).to_contain_text("request ")  # its id, which the page may read across origins
    visitor.visit(endpoint="http://127.0.0.1:1")
    visitor.say("hello")
    expect(visitor.alert).to_contain_text(f"does its configuration allow the origin {stage.site.origin}?")


def test_a_page_of_another_origin_is_kept_out(stage, visitor):
    """That the others are let in by the configuration, and not because nobody checks."""
    visitor.visit()
    ask = """(url) => fetch(url, {method: 'POST', headers: {Authorization: 'Bearer x'}}).then((r) => r.status, (e) => e.name)"""
    url = f"{stage.server.url}/runtimes/{quote(stage.arn, safe='')}/invocations"
    assert visitor.page.evaluate(ask, url) == 401
    visitor.page.goto(stage.site.origin.replace("localhost", "127.0.0.1"))
    assert visitor.page.evaluate(ask, url) == "TypeError"


def test_finds_the_provider_by_itself_and_signs_out(stage, visitor):
    visitor.visit(issuer=None).sign_in("jo")
    assert visitor.answered("hello") == "You said: hello"
    visitor.button("Sign out").click()
    visitor.button("Yes, sign me out").click()
    expect(visitor.button("Sign in")).to_be_visible()
    assert visitor.page.url.split("?")[0] == f"{stage.site.origin}/"
    assert visitor.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    visitor.sign_in("jo")
    expect(visitor.log.locator(".text")).to_have_count(0)


def test_a_sign_in_that_another_page_began_is_not_taken(stage, visitor):
    visitor.visit()
    visitor.page.goto(f"{stage.site.origin}/?code=stolen&state=made-up")
    expect(visitor.alert).to_contain_text("not begun in this tab")
    assert visitor.asked_provider("/token") == []
    visitor.sign_in()
