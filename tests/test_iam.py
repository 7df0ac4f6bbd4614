"""Users, roles, keys and policies, and STS, as boto3 and the command line see them."""

import base64
import http.server
import json
import os
import subprocess
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from callers import ACCOUNT, Iam, allow, client, code, policy, temporary, trust
from conftest import EYOT, Server
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("iam") / "data", driver="process").start()
    yield server
    assert server.stop() == 0, server.stderr_text()


@pytest.fixture(scope="module")
def iam(server):
    return Iam(server)


def test_a_users_key_may_what_its_policies_say_and_ends_at_once(server, iam):
    key = iam.user("alice", allow("bedrock-agentcore:List*"))
    control = client(server, "bedrock-agentcore-control", key)
    control.list_agent_runtimes()
    name, status, message = code(control.get_agent_runtime, agentRuntimeId="none-0123456789")
    assert (name, status) == ("AccessDeniedException", 403)
    assert "user/alice is not authorized to perform: bedrock-agentcore:GetAgentRuntime" in message
    # Not even its own keys.
    status, document = Iam(server, key).call("GET", "users/alice/keys")
    assert status == 403 and "eyot:ListAccessKeys" in document["message"]

    assert iam.ok("PATCH", f"users/alice/keys/{key.access_key}", {"enabled": False})["enabled"] is False
    assert code(control.list_agent_runtimes)[:2] == ("AccessDeniedException", 403)
    iam.ok("PATCH", f"users/alice/keys/{key.access_key}", {"enabled": True})
    control.list_agent_runtimes()
    used = iam.ok("GET", "users/alice/keys")["accessKeys"][0]["lastUsedAt"]
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(used)) < timedelta(seconds=30)
    new = iam.ok("POST", f"users/alice/keys/{key.access_key}/rotate")
    assert code(control.list_agent_runtimes)[1] == 403
    client(server, "bedrock-agentcore-control", Credentials(new["accessKeyId"], new["secretAccessKey"])).list_agent_runtimes()
    iam.ok("DELETE", "users/alice")
    assert iam.call("GET", "users/alice")[0] == 404


def test_a_secret_is_shown_once(server, iam):
    secret = iam.user("once").secret_key
    shown = json.dumps([iam.ok("GET", path) for path in ("users", "users/once", "users/once/keys")])
    assert "AKIA" in shown and secret not in shown
    assert secret not in server.stderr_text()


def test_what_is_wrong_is_said_with_its_place(iam):
    def refused(method, path, body, status, *words):
        got, document = iam.call(method, path, body)
        assert got == status and all(word in document["message"] for word in words), (got, document)

    iam.user("wrong")
    broken = policy({"Effect": "Allow", "Action": "eyot:*", "Resouce": "*"})
    refused("PUT", "users/wrong/policies/p", broken, 400, "Statement[0].Resouce")
    refused("POST", "users", {"userName": "a b"}, 400, "userName", "'a b'")
    refused("POST", "users", {"name": "a"}, 400, "unknown field `name`")
    refused("POST", "users", {"userName": "wrong"}, 409, "already", "wrong")
    refused("POST", "roles", {"roleName": "r", "trustPolicy": policy(allow("sts:AssumeRole"))}, 400, "trustPolicy: Statement[0]")
    refused("DELETE", "users/nobody", None, 404, "no user 'nobody'")
    refused("PUT", "users/wrong", None, 400, "use GET or DELETE")
    refused("GET", "users?maxresults=1", None, 400, "maxresults", "maxResults")
    iam.ok("POST", "users/wrong/keys")
    refused("POST", "users/wrong/keys", None, 402, "2 access keys")


def test_lists_have_pages(iam):
    for number in range(5):
        iam.ok("POST", "users?accountId=555555555555", {"userName": f"u{number}"})
    names, token = [], ""
    while True:
        page = iam.ok("GET", f"users?accountId=555555555555&maxResults=2{token}")
        names += [user["userName"] for user in page["users"]]
        if "nextToken" not in page:
            break
        token = f"&nextToken={page['nextToken']}"
    assert names == [f"u{number}" for number in range(5)]


def test_the_command_line(server, tmp_path):
    (tmp_path / "trust.json").write_text(json.dumps(trust({"AWS": ACCOUNT})))
    (tmp_path / "policy.json").write_text(json.dumps(policy(allow("bedrock-agentcore:*"))))

    def eyot(*words, **kwargs):
        return server.cli("iam", *words, cwd=tmp_path, **kwargs)

    assert "arn:aws:iam::123456789012:root" in eyot("whoami").stdout
    eyot("users", "create", "cli")
    made = eyot("keys", "create", "--user", "cli")
    assert "AKIA" in made.stdout and "only time" in made.stderr
    key = json.loads(eyot("keys", "rotate", "--user", "cli", made.stdout.split()[2], "--output", "json").stdout)
    eyot("policies", "put", "--user", "cli", "all", "policy.json")
    assert eyot("policies", "list", "--user", "cli").stdout == "all\n"
    assert json.loads(eyot("policies", "get", "--user", "cli", "all").stdout) == policy(allow("bedrock-agentcore:*"))
    env = {"AWS_ACCESS_KEY_ID": key["accessKeyId"], "AWS_SECRET_ACCESS_KEY": key["secretAccessKey"]}
    whoami = json.loads(eyot("whoami", "-o", "json", env=env).stdout)
    assert whoami["arn"] == "arn:aws:iam::123456789012:user/cli" and whoami["userId"].startswith("AIDA")
    refused = eyot("users", "list", env=env, check=False)
    assert refused.returncode == 1 and "eyot:ListUsers" in refused.stderr
    eyot("roles", "create", "cli-role", "--trust-policy", "trust.json", "--max-session", "7200")
    eyot("roles", "update", "cli-role", "--description", "for tests")
    assert "7200" in eyot("roles", "show", "cli-role").stdout
    assert "for tests" in eyot("roles", "list").stdout
    listed = eyot("users", "list").stdout
    assert "cli" in listed and key["accessKeyId"] in listed
    eyot("keys", "disable", "--user", "cli", key["accessKeyId"])
    assert eyot("whoami", env=env, check=False).returncode == 1
    eyot("roles", "delete", "cli-role")
    eyot("users", "delete", "cli")
    wrong = eyot("users", "show", "cli", check=False)
    assert wrong.returncode == 1 and "no user 'cli'" in wrong.stderr


def test_sts_says_who_calls(server, iam):
    root = iam.credentials
    answer = client(server, "sts", root).get_caller_identity()
    assert (answer["Account"], answer["Arn"], answer["UserId"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    key = iam.user("who")
    sts = client(server, "sts", key)
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/who"
    assert client(server, "sts", root).get_access_key_info(AccessKeyId=key.access_key)["Account"] == ACCOUNT
    assert code(sts.get_access_key_info, AccessKeyId=key.access_key)[:2] == ("AccessDenied", 403)
    wrong = Credentials(key.access_key, "x" * 40)
    assert code(client(server, "sts", wrong).get_caller_identity)[:2] == ("SignatureDoesNotMatch", 403)
    unknown = Credentials("AKIAUNKNOWN", "x" * 40)
    assert code(client(server, "sts", unknown).get_caller_identity)[:2] == ("InvalidClientTokenId", 403)
    name, status, message = code(sts.get_federation_token, Name="x1")
    assert (name, status) == ("InvalidAction", 400) and "GetFederationToken" in message


def test_a_role_is_taken_and_has_its_own_rights(server, iam):
    arn = iam.role("worker", trust({"AWS": ACCOUNT}), allow("bedrock-agentcore:ListAgentRuntimes"))
    key = iam.user("taker")
    sts = client(server, "sts", key)
    name, status, message = code(sts.assume_role, RoleArn=arn, RoleSessionName="test")
    assert (name, status) == ("AccessDenied", 403) and "no identity-based policy allows the sts:AssumeRole" in message
    iam.ok("PUT", "users/taker/policies/assume", policy(allow("sts:AssumeRole", arn)))
    answer = sts.assume_role(RoleArn=arn, RoleSessionName="test")
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/test"
    left = answer["Credentials"]["Expiration"] - datetime.now(timezone.utc)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    given = temporary(answer)
    assert client(server, "sts", given).get_caller_identity()["Arn"] == answer["AssumedRoleUser"]["Arn"]
    control = client(server, "bedrock-agentcore-control", given)
    control.list_agent_runtimes()
    assert "assumed-role/worker/test is not authorized" in code(control.get_agent_runtime, agentRuntimeId="a-0123456789")[2]

    # Narrowed down by a session policy.
    narrow = sts.assume_role(RoleArn=arn, RoleSessionName="test", Policy=json.dumps(policy(allow("eyot:*"))))
    assert narrow["PackedPolicySize"] > 0
    said = code(client(server, "bedrock-agentcore-control", temporary(narrow)).list_agent_runtimes)[2]
    assert "no session policy allows" in said

    # With the token left out, or that of others.
    for token in (None, narrow["Credentials"]["SessionToken"]):
        bad = Credentials(given.access_key, given.secret_key, token)
        assert code(client(server, "sts", bad).get_caller_identity)[:2] == ("InvalidClientTokenId", 403)
    # From then on, and what others of the same session have, too.
    iam.ok("POST", "revocations", {"roleArn": arn, "sessionName": "test"})
    assert code(control.list_agent_runtimes)[1] == 403
    again = client(server, "bedrock-agentcore-control", temporary(sts.assume_role(RoleArn=arn, RoleSessionName="test")))
    again.list_agent_runtimes()
    iam.ok("DELETE", "roles/worker")
    assert code(again.list_agent_runtimes)[1] == 403
    assert code(sts.assume_role, RoleArn=arn, RoleSessionName="test")[0] == "AccessDenied"


@pytest.mark.parametrize("parameters, name, word", [
    ({"RoleArn": "arn:aws:iam::123456789012:user/x"}, "ValidationError", "no ARN of a role"),
    ({"RoleSessionName": "a b"}, "ValidationError", "RoleSessionName"),
    ({"DurationSeconds": 900 * 5}, "ValidationError", "MaxSessionDuration"),
    ({"Policy": "{}"}, "MalformedPolicyDocument", "Statement"),
    ({"SerialNumber": "arn:aws:iam::123456789012:mfa/x", "TokenCode": "123456"}, "ValidationError", "SerialNumber"),
])
def test_what_sts_refuses_has_aws_names(server, iam, parameters, name, word):
    arn = f"arn:aws:iam::{ACCOUNT}:role/bounds"
    if iam.call("GET", "roles/bounds")[0] == 404:
        iam.role("bounds", trust({"AWS": ACCOUNT}))
    asked = {"RoleArn": arn, "RoleSessionName": "test", **parameters}
    got, status, message = code(client(server, "sts", iam.credentials).assume_role, **asked)
    assert (got, status) == (name, 400) and word in message, message


def test_conditions_of_a_trust_policy(server, iam):
    sts = client(server, "sts", iam.credentials)
    external = iam.role("external", trust({"AWS": ACCOUNT}, Condition={"StringEquals": {"sts:ExternalId": "secret"}}))
    assert code(sts.assume_role, RoleArn=external, RoleSessionName="test")[0] == "AccessDenied"
    sts.assume_role(RoleArn=external, RoleSessionName="test", ExternalId="secret")
    local = iam.role("local", trust({"AWS": ACCOUNT}, Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}))
    sts.assume_role(RoleArn=local, RoleSessionName="test")
    far = iam.role("far", trust({"AWS": ACCOUNT}, Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}))
    assert code(sts.assume_role, RoleArn=far, RoleSessionName="test")[0] == "AccessDenied"


def test_a_session_token_is_the_user_for_a_time(server, iam):
    key = iam.user("timed", allow("bedrock-agentcore:List*"))
    given = temporary(client(server, "sts", key).get_session_token(DurationSeconds=900))
    sts = client(server, "sts", given)
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/timed"
    client(server, "bedrock-agentcore-control", given).list_agent_runtimes()
    assert code(sts.get_session_token)[0] == "AccessDenied"
    iam.ok("DELETE", "users/timed")
    assert code(sts.get_caller_identity)[0] == "InvalidClientTokenId"


def session(tmp_path, monkeypatch, server, config):
    """A boto3 session that knows nothing but a configuration file."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    return boto3.Session(profile_name="work", region_name="us-west-2")


def test_a_profile_with_a_role(server, iam, tmp_path, monkeypatch):
    arn = iam.role("profile", trust({"AWS": ACCOUNT}), allow("bedrock-agentcore:List*"))
    key = iam.user("profiled", allow("sts:AssumeRole", arn))
    config = f"""
[profile base]
aws_access_key_id = {key.access_key}
aws_secret_access_key = {key.secret_key}

[profile work]
role_arn = {arn}
source_profile = base
role_session_name = from-profile
"""
    boto = session(tmp_path, monkeypatch, server, config)
    boto.client("bedrock-agentcore-control").list_agent_runtimes()
    identity = boto.client("sts").get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/profile/from-profile"


def test_temporary_credentials_survive_a_restart_and_kill(make_server, tmp_path):
    server = make_server(driver="process").start()
    iam = Iam(server)
    arn = iam.role("lasting", trust({"AWS": ACCOUNT}), allow("bedrock-agentcore:List*"))
    key = iam.user("lasting", allow("sts:AssumeRole", arn))
    kept, lost = (temporary(client(server, "sts", key).assume_role(RoleArn=arn, RoleSessionName=name)) for name in ("one", "two"))
    iam.ok("POST", "revocations", {"accessKeyId": lost.access_key})
    server.kill()
    server.start()
    client(server, "bedrock-agentcore-control", kept).list_agent_runtimes()
    assert code(client(server, "bedrock-agentcore-control", lost).list_agent_runtimes)[1] == 403
    client(server, "sts", key).get_caller_identity()


def test_a_key_from_a_command_or_a_variable(make_server, tmp_path):
    digits = "5a" * 32
    command = {"EYOT__MASTER_KEY__SOURCE": "command", "EYOT__MASTER_KEY__COMMAND": f"['echo', '{digits}']"}
    variable = {"EYOT__MASTER_KEY__SOURCE": "environment", "EYOT_MASTER_KEY": digits}
    seen = set()
    for env in (command, variable):
        server = make_server(driver="process", env=env)
        # `eyot env` needs the same source.
        server.start()
        base = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EYOT__"))}
        words = [EYOT, "env", "--data-dir", str(server.data_dir), "--format", "json"]
        without = subprocess.run(words, env=base, capture_output=True, text=True, timeout=20)
        assert without.returncode == 1 and "EYOT__MASTER_KEY__" in without.stderr, without.stderr
        with_it = subprocess.run(words, env={**base, **env}, capture_output=True, text=True, timeout=20)
        assert with_it.returncode == 0, with_it.stderr
        seen.add(json.loads(with_it.stdout)["AWS_SECRET_ACCESS_KEY"])
        assert not (server.data_dir / "master.key").exists()
        assert server.stop() == 0
    assert len(seen) == 1, "the same key opens the same root key"
    other = make_server(driver="process", env={**variable, "EYOT_MASTER_KEY": "00" * 32})
    with pytest.raises(AssertionError, match="master key is another one"):
        other.start()


def seal(data_dir, key_id, claims):
    """A session token as the server makes them, of claims that it would not give out."""
    master = bytes.fromhex((data_dir / "master.key").read_text().strip())
    key = HKDF(hashes.SHA256(), 32, salt=b"eyot master key", info=b"eyot session token v1").derive(master)
    nonce = os.urandom(12)
    sealed = b"\x01" + nonce + AESGCM(key).encrypt(nonce, json.dumps(claims).encode(), key_id.encode())
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def test_a_session_token_whose_time_is_over(server, iam):
    role = iam.ok("POST", "roles", {"roleName": "timely", "trustPolicy": trust({"AWS": ACCOUNT})})
    iam.ok("PUT", "roles/timely/policies/list", policy(allow("bedrock-agentcore:List*")))
    now = int(time.time())

    def made(expires):
        key_id = f"ASIA{uuid.uuid4().hex[:16].upper()}"
        of = {"r": {"name": "timely", "id": role["roleId"], "session": "test"}}
        claims = {"k": "s" * 40, "a": ACCOUNT, "o": of, "i": (now - 1000) * 1000, "e": expires}
        return Credentials(key_id, "s" * 40, seal(server.data_dir, key_id, claims))

    # The form is right, so what is refused next is refused for its time.
    client(server, "bedrock-agentcore-control", made(now + 60)).list_agent_runtimes()
    over = made(now - 1)
    said = "The security token included in the request is expired"
    got = code(client(server, "bedrock-agentcore-control", over).list_agent_runtimes)
    assert got == ("ExpiredTokenException", 403, said)
    assert code(client(server, "sts", over).get_caller_identity) == ("ExpiredToken", 403, said)
    soon = made(int(time.time()) + 2)
    control = client(server, "bedrock-agentcore-control", soon)
    control.list_agent_runtimes()
    time.sleep(2.1)
    assert code(control.list_agent_runtimes)[0] == "ExpiredTokenException", "also from the cache"


class Provider:
    """An OpenID provider: a discovery document, a key, and tokens."""

    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(provider.documents[self.path]).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        numbers = self.key.public_key().public_numbers()
        n, e = (self.encode(number.to_bytes(size, "big")) for number, size in ((numbers.n, 256), (numbers.e, 3)))
        self.documents = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", "authorization_endpoint": f"{self.issuer}/a",
                "token_endpoint": f"{self.issuer}/t", "response_types_supported": ["code"],
            },
            "/keys": {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": n, "e": e}]},
        }
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def token(self, **claims):
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "someone", "aud": "my-app", "iat": now, "exp": now + 600, **claims}
        parts = [{"alg": "RS256", "kid": "one", "typ": "JWT"}, claims]
        text = ".".join(self.encode(json.dumps(part).encode()) for part in parts)
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{self.encode(signature)}"


def test_a_token_of_an_identity_provider(make_server, tmp_path, monkeypatch):
    provider = Provider()
    config = tmp_path / "eyot.toml"
    config.write_text(f"""
web_identity."{provider.issuer}/.well-known/openid-configuration" = ["my-app"]
[oauth]
allow_loopback = true
leeway = "0s"
""")
    server = make_server(driver="process", args=["--config", str(config)]).start()
    iam = Iam(server)
    name = provider.issuer.removeprefix("http://")
    trusted = trust(
        {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"}, "sts:AssumeRoleWithWebIdentity",
        Condition={"StringEquals": {f"{name}:sub": "someone", f"{name}:aud": "my-app"}},
    )
    arn = iam.role("web", trusted, allow("bedrock-agentcore:List*"))
    token_file = tmp_path / "token"
    token_file.write_text(provider.token())
    boto = session(tmp_path, monkeypatch, server, f"""
[profile work]
role_arn = {arn}
web_identity_token_file = {token_file}
role_session_name = web
""")
    boto.client("bedrock-agentcore-control").list_agent_runtimes()
    assert boto.client("sts").get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/web/web"

    sts = boto3.client("sts", config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}))

    def take(token):
        return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="web", WebIdentityToken=token)

    answer = take(provider.token())
    assert (answer["SubjectFromWebIdentityToken"], answer["Audience"]) == ("someone", "my-app")
    assert code(take, provider.token(sub="other"))[:2] == ("AccessDenied", 403)
    for claims, expected in (({"aud": "other"}, "InvalidIdentityToken"), ({"exp": 1}, "ExpiredTokenException")):
        assert code(take, provider.token(**claims))[:2] == (expected, 400)
    assert code(take, Provider().token(iss=provider.issuer))[0] == "InvalidIdentityToken"
    assert code(take, "nonsense")[0] == "InvalidIdentityToken"
