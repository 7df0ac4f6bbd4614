"""What an agent finds inside its sandbox: credentials of its role, the region and the API, with an unmodified boto3."""

import re
import time

import pytest
from conftest import ROLE, deploy_files, invoke, session_id, signed

SECRET = "mapped/Secret+KeyOfATest0000000000000000"
TOKEN = "mapped-session-token"
# A role that stands for keys from outside needs nobody else to be issued.
MAPPED = {
    "EYOT__RUNTIME__ROLES__TEST__ARN": ROLE,
    "EYOT__RUNTIME__ROLES__TEST__ACCESS_KEY_ID": "AKIAMAPPEDOUTSIDE000",
    "EYOT__RUNTIME__ROLES__TEST__SECRET_ACCESS_KEY": SECRET,
    "EYOT__RUNTIME__ROLES__TEST__SESSION_TOKEN": TOKEN,
}
AGENT = '''
import json, os, traceback, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import boto3
from botocore.exceptions import ClientError, NoCredentialsError

# As agents do: a client is made, and looks for credentials, while the program is loaded.
early = boto3.client("bedrock-agentcore-control")

def metadata(method, path, **headers):
    base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    request = urllib.request.Request(base + path, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()

def call(client):
    try:
        return len(client.list_agent_runtimes()["agentRuntimes"])
    except ClientError as error:
        return error.response["Error"]["Code"]
    except NoCredentialsError:
        return "NoCredentials"

def look():
    found = boto3.Session().get_credentials()
    frozen = found and found.get_frozen_credentials()
    path = "/latest/meta-data/iam/security-credentials/execution_role"
    token = metadata("PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60")[1]
    return {
        "method": found and found.method,
        "credentials": found and list(frozen),
        "region": boto3.Session().region_name,
        "early": call(early),
        "late": call(boto3.client("bedrock-agentcore-control")),
        "roles": metadata("GET", path.rsplit("/", 1)[0] + "/", X_aws_ec2_metadata_token=token)[1],
        "document": metadata("GET", path, X_aws_ec2_metadata_token=token),
        "bare": metadata("GET", path)[0],
        "forwarded": metadata("GET", path, X_aws_ec2_metadata_token=token, X_Forwarded_For="10.0.0.1")[0],
        "env": dict(os.environ),
    }

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer({"status": "Healthy"})
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            self.answer(look())
        except Exception:
            self.answer({"failed": traceback.format_exc()})

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", 8080))), Agent).serve_forever()
'''
FILES = {"main.py": AGENT, "requirements.txt": "boto3==1.44.5\nbotocore==1.44.5\n"}


def wait_for(condition, timeout=30):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("driver", ["auto", "process"])
def test_boto3_finds_the_roles_credentials_by_itself(make_server, tmp_path, driver):
    server = make_server(driver=driver, env=MAPPED).start()
    arn = deploy_files(server, tmp_path, "inside", FILES, "--role-arn", ROLE)
    session = session_id()
    seen, _ = invoke(server.data, arn, {}, session)
    assert seen.get("method") == "iam-role", seen
    assert seen["credentials"][:3] == ["AKIAMAPPEDOUTSIDE000", SECRET, TOKEN]
    assert seen["region"] == server.env()["AWS_REGION"]
    assert seen["roles"] == "execution_role" and seen["document"][0] == 200
    assert (seen["bare"], seen["forwarded"]) == (401, 403)
    # The agent's calls come to this server, which does not know AWS's keys.
    assert seen["early"] == seen["late"] != "NoCredentials", seen
    assert seen["late"] in ("UnrecognizedClientException", "AccessDeniedException"), seen
    # No secret in the environment, on disk, or in what operators see.
    assert SECRET not in str(seen["env"]) and TOKEN not in str(seen["env"])
    assert not any(name.startswith(("AWS_ACCESS", "AWS_SECRET", "AWS_SESSION", "AWS_EC2_METADATA_DISABLED")) for name in seen["env"])
    report = signed(server, "GET", f"/_eyot/sessions/{session}")
    assert report["credentials"][0]["accessKeyId"] == "AKIAMAPPEDOUTSIDE000"
    assert SECRET not in str(report) and TOKEN not in str(report)
    time.sleep(1.5)  # until it is written down
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET.encode() not in data and TOKEN.encode() not in data, path
    assert SECRET not in server.stderr_text()


def test_a_warm_sandboxs_early_client_works_as_well(make_server, tmp_path):
    server = make_server(env={**MAPPED, "EYOT__RUNTIME__SESSION__WARM__MIN": "1"}).start()
    arn = deploy_files(server, tmp_path, "warm", FILES, "--role-arn", ROLE)
    session = session_id()
    seen, _ = invoke(server.data, arn, {}, session)
    assert signed(server, "GET", f"/_eyot/sessions/{session}")["start"]["warm"]
    assert seen["early"] == seen["late"] != "NoCredentials", seen


def test_an_agent_has_credentials_after_its_server_was_killed(make_server, tmp_path):
    server = make_server(env=MAPPED).start()
    arn = deploy_files(server, tmp_path, "survives", FILES, "--role-arn", ROLE)
    session = session_id()
    before, _ = invoke(server.data, arn, {}, session)
    server.kill()
    server.start()
    after, _ = invoke(server.data, arn, {}, session)
    assert after["credentials"] == before["credentials"]
    assert after["env"] == before["env"], "it is the same process"


def test_a_role_that_is_not_there_is_said_so(make_server, tmp_path):
    server = make_server().start()
    arn = deploy_files(server, tmp_path, "none", FILES, "--role-arn", ROLE)
    session = session_id()
    seen, _ = invoke(server.data, arn, {}, session)
    assert seen["method"] is None and seen["early"] == "NoCredentials"
    status, text = seen["document"]
    assert status == 404 and ROLE in text, text
    log = wait_for(lambda: re.search(r".*no credentials.*", server.cli("sessions", "logs", session).stdout))
    assert ROLE in log.group(0)
