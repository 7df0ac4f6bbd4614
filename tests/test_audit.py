"""The audit log: what an auditor finds in it of calls that were made through boto3 and by plain HTTP, and what nobody finds."""

import json
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from callers import ACCOUNT, Iam, allow, client, control_of, data_of, deny, policy, temporary, trust
from conftest import Server, deploy_files, invoke, sandbox_leftovers, session_id
from oidc import AGENTS, Provider, claims, oauth_environment, protect

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
MEMBERS = {"time", "requestId", "sourceIp", "principal", "operation", "action", "resource", "decision", "reason", "policy", "statement", "issued"}
PAYLOAD = "the-secret-of-a-payload"
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"


@pytest.fixture(scope="module")
def provider():
    provider = Provider().start()
    yield provider
    provider.stop()


def serve(directory, provider, **env):
    """A server with one runtime for signed requests and one for bearers."""
    server = Server(directory / "data", driver="process", env=oauth_environment() | env).start()
    arn = deploy_files(server, directory, "audited", {"main.py": PLAIN})
    bearer = protect(server, arn, "bearers", provider, allowedAudience=[AGENTS])
    return SimpleNamespace(
        server=server, iam=Iam(server), arn=arn, id=arn.rsplit("/", 1)[1], bearer=bearer, provider=provider,
        log=server.data_dir / "audit/audit.jsonl",
    )


def serving(stage):
    try:
        yield stage
    finally:
        ended = stage.server.stop()
    assert ended == 0, stage.server.stderr_text()
    assert sandbox_leftovers(stage.server.data_dir) == []


@pytest.fixture(scope="module")
def usual(tmp_path_factory, provider):
    """As it is without any configuration."""
    yield from serving(serve(tmp_path_factory.mktemp("audit"), provider))


@pytest.fixture(scope="module")
def everything(tmp_path_factory, provider):
    """Every decision, behind a proxy that is believed."""
    env = {"EYOT__AUDIT__LEVEL": "all", "EYOT__SERVER__TRUSTED_PROXIES": '["127.0.0.0/8"]'}
    yield from serving(serve(tmp_path_factory.mktemp("audit-all"), provider, **env))


def entries(stage, request_id):
    """What is written of one request."""
    return written(stage, lambda line: line["requestId"] == request_id)


def written(stage, fits):
    """The lines that fit. They are written within moments."""
    deadline = time.monotonic() + 10
    while True:
        # The last line may be half there.
        lines = stage.log.read_text().split("\n")[:-1]
        found = [line for line in map(json.loads, lines) if fits(line)]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def request_id(answer):
    return answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]


def refused_id(call, **parameters):
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    return request_id(refused.value.response)


def bearer(stage, token, body=b"{}", **headers):
    url = f"{stage.server.url}/runtimes/{quote(stage.bearer, safe='')}/invocations?qualifier=DEFAULT"
    headers = {"Authorization": f"Bearer {token}", SESSION: session_id()} | {k.replace("_", "-"): v for k, v in headers.items()}
    return requests.post(url, headers=headers, data=body, timeout=60)


def test_who_did_what_and_why_it_was_allowed(usual):
    key = usual.iam.user("reader", allow("bedrock-agentcore:List*"), allow("bedrock-agentcore:Get*", f"{usual.arn}*", Sid="ReadOwn"))
    control = control_of(usual.server, key)
    [line] = entries(usual, request_id(control.get_agent_runtime(agentRuntimeId=usual.id)))
    assert set(line) <= MEMBERS
    assert abs(datetime.fromisoformat(line.pop("time")) - datetime.now(timezone.utc)) < timedelta(seconds=30)
    assert re.fullmatch("[0-9a-f-]{36}", line.pop("requestId"))
    assert "reader" in line["principal"]["arn"] and "ReadOwn" in line.pop("reason")
    assert line == {
        "sourceIp": "127.0.0.1", "operation": "GetAgentRuntime", "action": "bedrock-agentcore:GetAgentRuntime",
        "principal": {"type": "User", "arn": f"arn:aws:iam::{ACCOUNT}:user/reader", "accessKeyId": key.access_key},
        "resource": usual.arn, "decision": "allow", "policy": "test", "statement": "ReadOwn",
    }
    # A statement without a name is its place; an operation on two things makes two lines.
    [line] = entries(usual, request_id(control.list_agent_runtimes()))
    assert (line["policy"], line["statement"]) == ("test", "0")
    lines = entries(usual, request_id(control.get_agent_runtime_endpoint(agentRuntimeId=usual.id, endpointName="DEFAULT")))
    assert [line["resource"] for line in lines] == [usual.arn, f"{usual.arn}/runtime-endpoint/DEFAULT"]
    # The root needs no policy.
    [line] = entries(usual, request_id(usual.server.control.list_agent_runtimes()))
    assert line["principal"]["type"] == "Root" and line["principal"]["arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    assert "root" in line["reason"] and "policy" not in line and "statement" not in line
    # A role's session is named with its role.
    role = usual.iam.role("auditor", trust({"AWS": ACCOUNT}), allow("bedrock-agentcore:List*", Sid="Look"))
    given = temporary(client(usual.server, "sts", usual.iam.credentials).assume_role(RoleArn=role, RoleSessionName="monday"))
    [line] = entries(usual, request_id(control_of(usual.server, given).list_agent_runtimes()))
    assert line["principal"] == {
        "type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/auditor/monday", "accessKeyId": given.access_key,
    }


def test_what_denied(usual):
    key = usual.iam.user("kept-out", allow("*"), deny("bedrock-agentcore:Delete*", Sid="KeepAll"))
    control, data = control_of(usual.server, key), data_of(usual.server, key)
    [line] = entries(usual, refused_id(control.delete_agent_runtime, agentRuntimeId=usual.id))
    assert (line["decision"], line["policy"], line["statement"]) == ("deny", "test", "KeepAll"), line
    assert line["action"] == "bedrock-agentcore:DeleteAgentRuntime" and line["resource"] == usual.arn
    assert line["principal"]["arn"].endswith("user/kept-out")
    # By the resource's policy, of a call of the data plane.
    text = json.dumps(policy({"Sid": "NobodyNow", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": usual.arn}))
    usual.server.control.put_resource_policy(resourceArn=usual.arn, policy=text)
    [line] = entries(usual, refused_id(data.invoke_agent_runtime, agentRuntimeArn=usual.arn, payload=b"{}"))
    usual.server.control.delete_resource_policy(resourceArn=usual.arn)
    assert (line["decision"], line["statement"], line["operation"]) == ("deny", "NobodyNow", "InvokeAgentRuntime"), line
    assert "resource" in line["reason"]
    # Because nothing allows it: there is no statement to name.
    nobody = usual.iam.user("nobody")
    [line] = entries(usual, refused_id(control_of(usual.server, nobody).get_agent_runtime, agentRuntimeId="none-0000000000"))
    assert line["decision"] == "deny" and "no identity-based policy" in line["reason"]
    assert "policy" not in line and "statement" not in line
    # Ours as well.
    status, _ = Iam(usual.server, nobody).call("GET", "users")
    assert status == 403
    [line] = written(usual, lambda line: line.get("action") == "eyot:ListUsers" and line["principal"]["arn"].endswith("user/nobody"))
    assert (line["decision"], line["resource"]) == ("deny", f"arn:aws:iam::{ACCOUNT}:user/*")


def test_who_took_which_role(usual):
    key = usual.iam.user("taker", allow("sts:AssumeRole", Sid="TakeAny"))
    open_role = usual.iam.role("for-takers", trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/taker"}, Sid="Takers"))
    closed_role = usual.iam.role("for-others", trust({"AWS": "210987654321"}))
    sts = client(usual.server, "sts", key)
    answer = sts.assume_role(RoleArn=open_role, RoleSessionName="audit")
    [line] = entries(usual, request_id(answer))
    assert line["issued"] == answer["Credentials"]["AccessKeyId"]
    assert (line["decision"], line["action"], line["resource"]) == ("allow", "sts:AssumeRole", open_role), line
    assert line["principal"]["arn"] == f"arn:aws:iam::{ACCOUNT}:user/taker" and "Takers" in line["reason"]
    [line] = entries(usual, refused_id(sts.assume_role, RoleArn=closed_role, RoleSessionName="audit"))
    assert (line["decision"], line["action"], line["resource"]) == ("deny", "sts:AssumeRole", closed_role), line
    assert "trust policy" in line["reason"] and "statement" not in line


def test_who_is_not_believed(usual):
    """They are nobody in the log: what they said of themselves is not true or not known to be."""
    good = usual.iam.credentials
    list_runtimes = lambda key: refused_id(control_of(usual.server, key).list_agent_runtimes)
    cases = [
        (list_runtimes(Credentials(good.access_key, "x" * 40)), "SignatureDoesNotMatch", "ListAgentRuntimes"),
        (list_runtimes(Credentials("AKIANOBODY0000000000", "x" * 40)), "UnrecognizedClient", "ListAgentRuntimes"),
    ]
    unsigned = requests.post(f"{usual.server.url}/runtimes/", timeout=20)
    cases.append((unsigned.headers["x-amzn-RequestId"], "MissingAuthenticationToken", "ListAgentRuntimes"))
    for token in ("garbage", ""):
        reply = bearer(usual, token)
        assert reply.status_code == 401
        cases.append((reply.headers["x-amzn-RequestId"], None, "InvokeAgentRuntime"))
    with_key = refused_id(usual.server.data.invoke_agent_runtime, agentRuntimeArn=usual.bearer, payload=b"{}")
    cases.append((with_key, "MethodMismatch", "InvokeAgentRuntime"))
    for identity, reason, operation in cases:
        [line] = entries(usual, identity)
        assert set(line) == {"time", "requestId", "sourceIp", "operation", "decision", "reason"}, line
        assert (line["decision"], line["operation"]) == ("deny", operation)
        assert line["reason"] == reason or reason is None and line["reason"], line


def test_calls_of_the_data_plane_are_for_the_level_all(usual, everything):
    for stage, expected in ((usual, 0), (everything, 2)):
        reply = stage.server.data.invoke_agent_runtime(agentRuntimeArn=stage.arn, payload=b'{"act": "hello"}')
        reply["response"].read()
        of_bearer = bearer(stage, stage.provider.token())
        assert of_bearer.status_code == 200, of_bearer.text
        # What comes later is written later.
        assert entries(stage, request_id(stage.server.control.list_agent_runtimes()))
        text = stage.log.read_text()
        assert (text.count(request_id(reply)), text.count(of_bearer.headers["x-amzn-RequestId"])) == (expected, expected)
    lines = entries(everything, request_id(reply))
    assert [line["resource"] for line in lines] == [everything.arn, f"{everything.arn}/runtime-endpoint/DEFAULT"]
    assert {(line["operation"], line["decision"]) for line in lines} == {("InvokeAgentRuntime", "allow")}
    # A bearer is known by who issued the token for whom.
    line = entries(everything, of_bearer.headers["x-amzn-RequestId"])[0]
    assert line["principal"] == {"type": "Bearer", "issuer": everything.provider.issuer, "subject": "backend"}
    assert "token" in line["reason"] and line["action"] == "bedrock-agentcore:InvokeAgentRuntime"
    # With a user's id there are two actions.
    reply = everything.server.data.invoke_agent_runtime(agentRuntimeArn=everything.arn, payload=b"{}", runtimeUserId="maria")
    actions = {line["action"] for line in entries(everything, request_id(reply))}
    assert actions == {"bedrock-agentcore:InvokeAgentRuntime", "bedrock-agentcore:InvokeAgentRuntimeForUser"}


def forwarded(stage, key, address, proto=None):
    """ListAgentRuntimes through a proxy that says where it comes from."""
    request = AWSRequest("POST", f"{stage.server.url}/runtimes/", data=b"")
    SigV4Auth(key, "bedrock-agentcore", "us-west-2").add_auth(request)
    headers = dict(request.headers) | {"X-Forwarded-For": address} | ({"X-Forwarded-Proto": proto} if proto else {})
    reply = requests.post(request.url, headers=headers, timeout=20)
    return reply, entries(stage, reply.headers["x-amzn-RequestId"])[0]


def test_the_clients_address_is_the_one_that_a_trusted_proxy_says(usual, everything):
    only_there = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
    for stage, believed in ((usual, False), (everything, True)):
        key = stage.iam.user("from-afar", allow("*", Condition=only_there), deny("*", Condition={"IpAddress": {"aws:SourceIp": "203.0.113.66"}}))
        for said, address, status in (
            ("203.0.113.7", "203.0.113.7", 200),
            ("198.51.100.1, 203.0.113.7", "203.0.113.7", 200),  # the client itself wrote the first
            ("203.0.113.7, 198.51.100.1", "198.51.100.1", 403),
            ("203.0.113.7, 198.51.100.1, 127.0.0.9", "198.51.100.1", 403),
            ("203.0.113.66", "203.0.113.66", 403),
            ("nonsense", "127.0.0.1", 403),
        ):
            reply, line = forwarded(stage, key, said)
            assert line["sourceIp"] == (address if believed else "127.0.0.1"), (said, line)
            assert reply.status_code == (status if believed else 403), (said, reply.text)
            assert line["decision"] == ("allow" if reply.ok else "deny")
        secure = stage.iam.user("secure", allow("*", Condition={"Bool": {"aws:SecureTransport": "true"}}))
        for proto in ("https", "http"):
            reply, _ = forwarded(stage, secure, "203.0.113.7", proto)
            assert reply.status_code == (200 if believed and proto == "https" else 403)


def test_no_secret_token_or_payload_is_written(usual, everything):
    """Also not what was refused, and not in the server's log."""
    for stage in (usual, everything):
        server = stage.server
        key = stage.iam.user("quiet", allow(["bedrock-agentcore:*", "sts:*"]))
        role = stage.iam.role("quiet", trust({"AWS": ACCOUNT}), allow("*"))
        given = temporary(client(server, "sts", key).assume_role(RoleArn=role, RoleSessionName="quiet"))
        token = stage.provider.token()
        session = session_id()
        invoke(data_of(server, given), stage.arn, {"act": "raw", "text": PAYLOAD}, session, runtimeUserId="maria")
        url = data_of(server, given).generate_presigned_url(
            "invoke_agent_runtime", Params={"agentRuntimeArn": stage.arn, "payload": b"", "runtimeSessionId": session}, ExpiresIn=60)
        assert requests.post(url, headers={SESSION: session}, timeout=20).status_code == 200
        signature = re.search("X-Amz-Signature=(.{64})", url).group(1)
        bad = url.replace(signature, "0" * 64)
        assert requests.post(bad, headers={SESSION: session}, timeout=20).status_code == 403
        assert bearer(stage, token, json.dumps({"act": "raw", "text": PAYLOAD}).encode()).status_code == 200
        broken = f"{token[:-4]}AAAA"
        assert bearer(stage, broken).status_code == 401
        control = control_of(server, given)
        control.tag_resource(resourceArn=stage.arn, tags={"note": PAYLOAD})
        assert entries(stage, request_id(control.list_agent_runtimes()))
        secrets = {
            "a user's secret": key.secret_key, "a role's secret": given.secret_key, "a session token": given.token[:60],
            "a bearer token": token.split(".")[1], "its signature": token.split(".")[2], "a refused one": broken.split(".")[2],
            "a signature": signature, "a payload or a tag": PAYLOAD, "the root's secret": stage.iam.credentials.secret_key,
        }
        for name, text in (("audit log", stage.log.read_text()), ("server's log", Path(server.stderr.name).read_text())):
            assert [what for what, secret in secrets.items() if secret in text] == [], name
        assert claims(token)["sub"] == "backend"


def test_the_file_is_for_its_owner_and_goes_on_after_a_restart(usual):
    assert usual.log.stat().st_mode & 0o777 == 0o600
    before = usual.log.read_text()
    assert before.endswith("\n")
    for end in (usual.server.stop, usual.server.kill):
        answered = request_id(usual.server.control.list_agent_runtimes())
        if end == usual.server.kill:
            assert entries(usual, answered)
        end()
        usual.server.start()
        assert answered in usual.log.read_text(), "an answered call is missing"
    after = usual.log.read_text()
    assert after.startswith(before) and len(after) > len(before)
    for line in after.splitlines():
        assert set(json.loads(line)) <= MEMBERS
    assert usual.log.stat().st_mode & 0o777 == 0o600
