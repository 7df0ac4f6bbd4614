"""What an agent finds inside its sandbox: credentials of its role, the region and the API, with an unmodified boto3."""

import json
import re
import time
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from callers import ACCOUNT, allow, client, code, control_of, deny, policy, trust
from conftest import ROLE, deploy_files, invoke, sandbox_leftovers, session_id, signed, wait_ready

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

def act(ask):
    """What boto3 answers to one call; nothing is given to it but its name and parameters."""
    client = boto3.client(ask["service"], **ask.get("client", {}))
    try:
        answer = getattr(client, ask["call"])(**ask.get("parameters", {}))
    except ClientError as error:
        return {"error": error.response["Error"], "status": error.response["ResponseMetadata"]["HTTPStatusCode"]}
    body = answer.get("response")
    return {"answer": body.read().decode() if body else json.loads(json.dumps(answer, default=str))}

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
        ask = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        try:
            self.answer(act(ask) if ask else look())
        except Exception:
            self.answer({"failed": traceback.format_exc()})

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", 8080))), Agent).serve_forever()
'''
FILES = {"main.py": AGENT, "requirements.txt": "boto3==1.44.5\nbotocore==1.44.5\n"}


PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()


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


def test_an_agent_acts_as_its_role_and_only_while_its_session_lives(make_server, tmp_path):
    """With a role of this server's own, made by the command line: the agent calls back through an unmodified boto3."""
    server = make_server().start()

    def write(name, document):
        (tmp_path / name).write_text(json.dumps(document))
        return str(tmp_path / name)

    service = {"Service": "bedrock-agentcore.amazonaws.com"}
    here = {"StringEquals": {"aws:SourceAccount": ACCOUNT}, "ArnLike": {"aws:SourceArn": f"arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/acting-*"}}
    trusted = write("trust.json", trust(service, Condition=here))
    server.cli("iam", "roles", "create", "agent", "--trust-policy", trusted)
    helper = deploy_files(server, tmp_path, "helper", {"main.py": PLAIN})
    rights = policy(
        allow("bedrock-agentcore:List*"), allow("bedrock-agentcore:InvokeAgentRuntime", f"{helper}*"),
        deny("bedrock-agentcore:GetAgentRuntime", Sid="NotThat"),
    )
    server.cli("iam", "policies", "put", "--role", "agent", "rights", write("rights.json", rights))
    arn = deploy_files(server, tmp_path, "acting", FILES, "--role-arn", ROLE)
    session = session_id()

    def act(name, within=session, service="bedrock-agentcore-control", **parameters):
        return invoke(server.data, arn, {"service": service, "call": name, "parameters": parameters}, within)[0]

    # Who it is; the region and the server's address it has been told.
    identity = act("get_caller_identity", service="sts")
    assert "answer" in identity, identity
    assert identity["answer"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/agent/{session}"
    listed = act("list_agent_runtimes")["answer"]["agentRuntimes"]
    assert {known["agentRuntimeArn"] for known in listed} == {arn, helper}
    # One agent calls another.
    called = invoke(server.data, arn, {"service": "bedrock-agentcore", "call": "invoke_agent_runtime", "parameters": {
        "agentRuntimeArn": helper, "payload": '{"act": "hello"}'}}, session)[0]
    assert json.loads(called["answer"])["turn"] == 1, called
    for name, parameters, words in [
        ("get_agent_runtime", {"agentRuntimeId": helper.rsplit("/", 1)[1]}, "with an explicit deny in an identity-based policy"),
        ("delete_agent_runtime", {"agentRuntimeId": helper.rsplit("/", 1)[1]}, "because no identity-based policy allows"),
    ]:
        refused = act(name, **parameters)
        assert refused["status"] == 403 and refused["error"]["Code"] == "AccessDeniedException", refused
        assert f"assumed-role/agent/{session} is not authorized" in refused["error"]["Message"] and words in refused["error"]["Message"]
    # What it may changes with the role's policy at once.
    rights["Statement"].append(allow("bedrock-agentcore:DeleteAgentRuntimeEndpoint"))
    server.cli("iam", "policies", "put", "--role", "agent", "rights", write("rights.json", rights))
    missing = act("delete_agent_runtime_endpoint", agentRuntimeId=helper.rsplit("/", 1)[1], endpointName="none")
    assert missing["error"]["Code"] == "ResourceNotFoundException", missing

    # Two sessions have nothing in common; what one gives away ends with it.
    other = session_id()
    mine, theirs = (Credentials(*invoke(server.data, arn, {}, of)[0]["credentials"][:3]) for of in (session, other))
    assert mine.access_key.startswith("ASIA") and mine.access_key != theirs.access_key
    for key, of in ((mine, session), (theirs, other)):
        assert client(server, "sts", key).get_caller_identity()["Arn"].endswith(f"assumed-role/agent/{of}")
        control_of(server, key).list_agent_runtimes()
    server.data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
    ended = "The security token included in the request is invalid"
    name, status, message = code(control_of(server, mine).list_agent_runtimes)
    assert (name, status) == ("AccessDeniedException", 403) and ended in message
    assert code(client(server, "sts", mine).get_caller_identity)[:2] == ("InvalidClientTokenId", 403)
    control_of(server, theirs).list_agent_runtimes()
    # The session begins anew under the same name, with others.
    again = Credentials(*invoke(server.data, arn, {}, session)[0]["credentials"][:3])
    assert again.access_key != mine.access_key
    control_of(server, again).list_agent_runtimes()
    server.kill()
    server.start()
    assert code(control_of(server, mine).list_agent_runtimes)[1] == 403, "a restart made them good again"
    control_of(server, again).list_agent_runtimes()
    # Whoever the trust policy does not mean gets none: here another runtime.
    control = server.control
    like = control.get_agent_runtime(agentRuntimeId=arn.rsplit("/", 1)[1])
    parts = {part: like[part] for part in ("agentRuntimeArtifact", "roleArn", "networkConfiguration")}
    stranger = control.create_agent_runtime(agentRuntimeName="stranger", **parts)
    wait_ready(control, stranger["agentRuntimeId"])
    seen, _ = invoke(server.data, stranger["agentRuntimeArn"], {}, session_id())
    assert seen["method"] is None and seen["document"][0] == 404 and ROLE in seen["document"][1], seen
    server.cli("iam", "roles", "delete", "agent")
    assert code(control_of(server, again).list_agent_runtimes)[1] == 403
    for key in (mine, again):
        for path in server.data_dir.rglob("*"):
            if path.is_file():
                assert key.secret_key.encode() not in path.read_bytes(), path
        assert key.secret_key not in server.stderr_text() and key.token not in server.stderr_text()
    assert server.stop() == 0
    assert sandbox_leftovers(server.data_dir) == []
