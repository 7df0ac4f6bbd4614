"""Bad input gets a clear error, and nothing is lost: the server goes on serving everybody else."""

import hashlib
import http.client
import io
import json
import os
import socket
import time
import zipfile
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from conftest import PYTHON, ROLE, deploy_files, invoke, session_id

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()


@pytest.fixture(scope="module")
def plain(shared_server, tmp_path_factory):
    return deploy_files(shared_server, tmp_path_factory.mktemp("bad"), "bad_input", {"main.py": PLAIN})


def signed(server, method, path, body=b"", headers=None):
    """Sends a request signed by botocore, with exactly this path; answers (status, headers, body)."""
    env = server.env()
    request = AWSRequest(method, server.url + path, data=body, headers=headers or {})
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "bedrock-agentcore", env["AWS_REGION"]).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    reply = connection.getresponse()
    return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()


def refused(server, status, exception, *args, **kwargs):
    got, headers, body = signed(server, *args, **kwargs)
    assert (got, headers.get("x-amzn-errortype")) == (status, exception), (got, headers, body)
    assert headers["x-amzn-requestid"]
    return json.loads(body)


CREATE = {
    "agentRuntimeName": "never",
    "agentRuntimeArtifact": {"codeConfiguration": {
        "code": {"s3": {"bucket": "eyot-artifacts", "prefix": "none.zip"}}, "runtime": PYTHON, "entryPoint": ["main.py"]}},
    "roleArn": ROLE,
    "networkConfiguration": {"networkMode": "PUBLIC"},
}


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff\xfe", b'{"a":', b'"text"', b"[" * 100_000])
def test_malformed_json(shared_server, body):
    answer = refused(shared_server, 400, "ValidationException", "PUT", "/runtimes/", body)
    assert answer["reason"] in ("CannotParse", "FieldValidationFailed") and answer["message"]


def test_every_violation_in_one_answer(shared_server):
    body = {
        "agentRuntimeName": "1 bad name",
        "agentRuntimeArtifact": {"codeConfiguration": {"code": {}, "runtime": "PYTHON_2_7", "entryPoint": []}},
        "roleArn": "nobody",
        "environmentVariables": {"A": 7},
        "description": "",
    }
    answer = refused(shared_server, 400, "ValidationException", "PUT", "/runtimes/", json.dumps(body).encode())
    assert answer["reason"] == "FieldValidationFailed"
    names = {field["name"] for field in answer["fieldList"]}
    artifact = "agentRuntimeArtifact.codeConfiguration"
    assert {"agentRuntimeName", f"{artifact}.code", f"{artifact}.runtime", f"{artifact}.entryPoint", "roleArn", "description"} <= names
    assert any(name.startswith("environmentVariables") for name in names)


def test_both_members_of_a_union(shared_server):
    both = {**CREATE, "agentRuntimeArtifact": {**CREATE["agentRuntimeArtifact"], "containerConfiguration": {"containerUri": "docker.io/library/x:1"}}}
    answer = refused(shared_server, 400, "ValidationException", "PUT", "/runtimes/", json.dumps(both).encode())
    assert "agentRuntimeArtifact" in {field["name"] for field in answer["fieldList"]}


@pytest.mark.parametrize(
    "method, path, status, exception",
    [
        ("GET", "/no/such/operation", 404, "UnknownOperationException"),
        ("PATCH", "/runtimes/", 404, "UnknownOperationException"),
        ("POST", "/gateways/", 501, None),
        ("POST", "/runtimes/%zz/invocations", 400, "ValidationException"),
        ("POST", "/runtimes/%00/invocations", None, None),
        ("POST", "/runtimes/%ff%fe/invocations", 400, "ValidationException"),
        ("POST", "/runtimes/%c0%af/invocations", 400, "ValidationException"),
        ("POST", "/runtimes//invocations", None, None),
        ("POST", "/runtimes/../../etc/passwd/invocations", None, None),
        ("POST", "/runtimes/arn%3Aaws%3As3%3A%3A%3Abucket/invocations", None, None),
        ("POST", "/runtimes/" + "a" * 3000 + "/invocations", None, None),
    ],
)
def test_odd_paths(shared_server, method, path, status, exception):
    got, headers, body = signed(shared_server, method, path, b"{}")
    if status:
        assert got == status, (got, body)
    assert 400 <= got < 500 or got == 501, (got, body)
    assert json.loads(body)["message"]
    if exception:
        assert headers["x-amzn-errortype"] == exception


def test_arn_spellings_reach_the_same_agent(shared_server, plain):
    session = session_id()
    header = {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": session}
    lower = quote(plain, safe="").replace("%3A", "%3a").replace("%2F", "%2f")
    paths = [quote(plain, safe=""), lower, plain, plain.replace("/", "%2F"), quote(plain, safe="") + "/runtime-endpoint/DEFAULT"]
    for number, spelling in enumerate(paths[:4], start=1):
        status, headers, body = signed(shared_server, "POST", f"/runtimes/{spelling}/invocations", b"{}", header)
        assert status == 200, (spelling, body)
        assert json.loads(body)["turn"] == number
    status, _, body = signed(shared_server, "POST", f"/runtimes/{paths[0]}/invocations/", b"{}", header)
    assert status == 200 and json.loads(body)["turn"] == 5


@pytest.mark.parametrize("change", [(":us-west-2:", ":eu-west-1:"), (":123456789012:", ":210987654321:")])
def test_another_region_or_account_is_refused_clearly(shared_server, plain, change):
    data = shared_server.data
    with pytest.raises((data.exceptions.ResourceNotFoundException, data.exceptions.AccessDeniedException)) as caught:
        invoke(data, plain.replace(*change), {})
    message = caught.value.response["Error"]["Message"]
    assert change[1].strip(":") in message and change[0].strip(":") in message


def test_headers_too_large(shared_server):
    connection = http.client.HTTPConnection(urlsplit(shared_server.url).netloc, timeout=30)
    connection.request("GET", "/_eyot/healthz", headers={f"X-Pad-{n}": "x" * 4000 for n in range(60)})
    assert connection.getresponse().status == 431


def test_a_truncated_body_reaches_no_agent(shared_server, plain):
    session = session_id()
    turn = invoke(shared_server.data, plain, {}, session)[0]["turn"]
    host, port = urlsplit(shared_server.url).netloc.split(":")
    env = shared_server.env()
    body = b'{"act":"hello","pad":"' + b"x" * 1000 + b'"}'
    path = f"/runtimes/{quote(plain, safe='')}/invocations"
    request = AWSRequest("POST", shared_server.url + path, data=body, headers={"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": session})
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "bedrock-agentcore", "us-west-2").add_auth(request)
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{k}: {v}\r\n" for k, v in request.headers.items()) + "\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(head.encode() + body[:500])
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(65536)
    assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0], answer
    assert invoke(shared_server.data, plain, {}, session)[0]["turn"] == turn + 1


def test_slow_clients_are_cut_and_hurt_nobody(make_server, tmp_path):
    env = {"EYOT__SERVER__HEAD_TIMEOUT": "2s", "EYOT__SERVER__BODY_STALL_TIMEOUT": "2s"}
    server = make_server(env=env).start()
    host, port = urlsplit(server.url).netloc.split(":")
    drips = []
    for number in range(200):
        raw = socket.create_connection((host, int(port)), timeout=30)
        raw.sendall(b"POST /runtimes/ HTTP/1.1\r\nHost: x\r\n" + (b"X-A: " if number % 2 else b""))
        drips.append(raw)
    started = time.monotonic()
    assert server.control.list_agent_runtimes()["agentRuntimes"] == []
    assert time.monotonic() - started < 5
    for raw in drips:
        raw.settimeout(15)
        while raw.recv(65536):
            pass  # the server answers 408 or closes; either way the connection ends
        raw.close()
    assert time.monotonic() - started < 30


def zip_of(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def create_from_zip(server, name, content, entry_point=("main.py",), runtime=PYTHON):
    """Uploads an archive as it is and creates a runtime from it; answers the settled runtime."""
    key = f"hostile/{hashlib.sha256(content).hexdigest()}.zip"
    status, _, body = signed(server, "PUT", f"/_eyot/artifacts/eyot-artifacts/{key}", content)
    assert status in (200, 201), body
    control = server.control
    artifact = {"codeConfiguration": {"code": {"s3": {"bucket": "eyot-artifacts", "prefix": key}}, "runtime": runtime, "entryPoint": list(entry_point)}}
    made = control.create_agent_runtime(agentRuntimeName=name, agentRuntimeArtifact=artifact, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"})
    deadline = time.monotonic() + 120
    while (got := control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"]))["status"] == "CREATING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    control.delete_agent_runtime(agentRuntimeId=made["agentRuntimeId"])
    return got


@pytest.mark.parametrize(
    "name, content, entry_point, says",
    [
        ("climbs", zip_of({"../../escape.py": "x", "main.py": "x"}), ["main.py"], "escape.py"),
        ("absolute", zip_of({"/etc/escape": "x", "main.py": "x"}), ["main.py"], "escape"),
        ("not_a_zip", b"this is not a zip file at all", ["main.py"], "zip"),
        ("empty_zip", zip_of({}), ["main.py"], "main.py"),
        ("no_entry", zip_of({"other.py": "x"}), ["main.py"], "main.py"),
        ("not_executable", zip_of({"agent": b"\x7fELF" + b"\0" * 60}), ["./agent"], "agent"),
    ],
)
def test_hostile_packages_fail_the_creation_with_a_reason(shared_server, name, content, entry_point, says):
    got = create_from_zip(shared_server, name, content, entry_point)
    assert got["status"] == "CREATE_FAILED", got
    assert says in got["failureReason"], got["failureReason"]
    assert not Path(shared_server.data_dir).parent.joinpath("escape.py").exists()


def test_a_zip_bomb(shared_server):
    content = zip_of({"main.py": "x", **{f"zeros{n}": b"\0" * (100 << 20) for n in range(8)}})
    assert len(content) < 2 << 20
    got = create_from_zip(shared_server, "bomb", content)
    assert got["status"] == "CREATE_FAILED" and "750" in got["failureReason"], got
    size = sum(f.stat().st_size for f in (Path(shared_server.data_dir) / "packages").rglob("*") if f.is_file())
    assert size < 500 << 20


def test_a_missing_artifact_and_a_missing_interpreter(shared_server):
    control = shared_server.control
    made = control.create_agent_runtime(**CREATE)
    deadline = time.monotonic() + 60
    while (got := control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"]))["status"] == "CREATING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert got["status"] == "CREATE_FAILED" and "none.zip" in got["failureReason"]
    control.delete_agent_runtime(agentRuntimeId=made["agentRuntimeId"])
    got = create_from_zip(shared_server, "no_python", zip_of({"main.py": "x"}), runtime="PYTHON_3_14")
    if got["status"] == "READY":
        pytest.skip("this host has Python 3.14, so nothing is missing")
    assert "PYTHON_3_14" in got["failureReason"] and PYTHON in got["failureReason"], got["failureReason"]


def test_a_full_disk(make_server, tmp_path):
    """The data directory on a tiny file system: uploads fail with a clear error, and the server lives on."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tiny file system needs root")
    import subprocess
    mount = tmp_path / "tiny"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)], check=True)
    try:
        server = make_server(name="tiny/data").start()
        (tmp_path / "keep").mkdir()
        arn = deploy_files(server, tmp_path, "small", {"main.py": PLAIN})
        status, headers, body = signed(server, "PUT", "/_eyot/artifacts/eyot-artifacts/big.zip", os.urandom(40 << 20))
        assert status == 500 and "space" in json.loads(body)["message"], (status, body)
        data = server.data
        with pytest.raises(data.exceptions.InternalServerException) as caught:
            data.invoke_agent_runtime(agentRuntimeArn=arn, payload=os.urandom(40 << 20))
        assert "space" in caught.value.response["Error"]["Message"]
        assert invoke(data, arn, {})[0]["turn"] == 1
        assert server.stop() == 0
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)


def test_missing_and_wrong_credentials(shared_server, plain):
    import boto3
    from botocore.config import Config
    host = urlsplit(shared_server.url).netloc
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", f"/runtimes/{quote(plain, safe='')}/invocations", body=b"{}")
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("x-amzn-errortype")) == (403, "AccessDeniedException")
    assert reply.getheader("WWW-Authenticate") is None
    env = shared_server.env()
    for key, secret in [("AKIAIOSFODNN7EXAMPLE", env["AWS_SECRET_ACCESS_KEY"]), (env["AWS_ACCESS_KEY_ID"], "wrong")]:
        client = boto3.client("bedrock-agentcore", endpoint_url=shared_server.url, region_name="us-west-2",
                              aws_access_key_id=key, aws_secret_access_key=secret, config=Config(retries={"total_max_attempts": 1}))
        with pytest.raises(client.exceptions.AccessDeniedException):
            invoke(client, plain, {})
    with pytest.raises(Exception) as caught:
        shared_server.client("bedrock-agentcore", parameter_validation=False).invoke_agent_runtime(
            agentRuntimeArn=plain, payload=b"{}", runtimeSessionId="short")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
