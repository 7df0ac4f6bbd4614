"""Artifacts from an S3-compatible service of the operator's: moto's S3 over HTTP, which checks every signature."""

import io
import json
import shutil
import socket
import time
import urllib.request
import zipfile
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from conftest import PYTHON, ROLE, Server, invoke, sandbox_leftovers, session_id, wait_ready
from moto.server import ThreadedMotoServer

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject*", "s3:ListBucket"], "Resource": "*"}]}


def package(greeting):
    """The plain agent as a zip, with a word of its own in its first answers."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("main.py", PLAIN.replace('{"turn": turn,', f'{{"greeting": "{greeting}", "turn": turn,'))
    assert greeting in zipfile.ZipFile(content).read("main.py").decode()
    return content.getvalue()


class Moto:
    """A running S3 with users: `reader` may read every bucket, `stranger` may do nothing."""

    def __init__(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        self.check_from_now_on(False)
        iam = self.client("iam")
        self.keys = {}
        for user in ("reader", "stranger"):
            iam.create_user(UserName=user)
            key = iam.create_access_key(UserName=user)["AccessKey"]
            self.keys[user] = (key["AccessKeyId"], key["SecretAccessKey"])
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(ALLOW))
        self.s3 = self.client("s3")

    def client(self, service, keys=("admin", "admin")):
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=keys[0], aws_secret_access_key=keys[1],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def check_from_now_on(self, on):
        """Whether signatures and permissions are checked; the objects are put in before."""
        body = b"0" if on else b"inf"
        ask = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data=body, headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(ask, timeout=10)

    def put(self, bucket, key, content):
        self.check_from_now_on(False)
        version = self.s3.put_object(Bucket=bucket, Key=key, Body=content).get("VersionId")
        self.check_from_now_on(True)
        return version


@pytest.fixture(scope="module")
def moto():
    moto = Moto()
    for bucket in ("agents", "for-wrong-secret", "for-unknown-key", "for-stranger"):
        moto.s3.create_bucket(Bucket=bucket)
        moto.s3.put_object(Bucket=bucket, Key="agent.zip", Body=package("hello"))
    moto.s3.put_bucket_versioning(Bucket="agents", VersioningConfiguration={"Status": "Enabled"})
    moto.check_from_now_on(True)
    yield moto
    moto.check_from_now_on(False)
    moto.server.stop()


def configuration(directory, services):
    """Writes {name: (url, access key, secret, buckets)} as an operator does; answers the flags that name the file."""
    file = directory / "eyot.toml"
    file.write_text("".join(
        f"[runtime.s3.{name}]\nendpoint = {json.dumps(url)}\naccess_key_id = {json.dumps(key)}\n"
        f"secret_access_key = {json.dumps(secret)}\nbuckets = {json.dumps(buckets)}\n"
        for name, (url, key, secret, buckets) in services.items()
    ))
    return ["--config", str(file)]


@pytest.fixture(scope="module")
def server(moto, tmp_path_factory):
    """A server that is told of five services; only the first will do."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    reader, secret = moto.keys["reader"]
    services = {
        "good": (moto.url, reader, secret, ["agents", "no-such-bucket"]),
        "wrong": (moto.url, reader, "not" + secret[3:], ["for-wrong-secret"]),
        "unknown": (moto.url, "AKIAIOSFODNN7EXAMPLE", secret, ["for-unknown-key"]),
        "stranger": (moto.url, *moto.keys["stranger"], ["for-stranger"]),
        "away": (nobody, reader, secret, ["for-away"]),
    }
    directory = tmp_path_factory.mktemp("s3")
    server = Server(directory / "data", args=configuration(directory, services)).start()
    yield server
    assert server.stop() == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []
    for _, _, secret, _ in services.values():
        assert secret not in Path(server.stderr.name).read_text(), "a secret of the configuration is in the log"


def create(server, name, bucket, key, **s3):
    artifact = {"codeConfiguration": {
        "code": {"s3": {"bucket": bucket, "prefix": key, **s3}}, "runtime": PYTHON, "entryPoint": ["main.py"]}}
    return server.control.create_agent_runtime(
        agentRuntimeName=name, agentRuntimeArtifact=artifact, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"})


def greeting(server, made):
    wait_ready(server.control, made["agentRuntimeId"])
    # After a restart a lost package is fetched again; until then a call is told to come again, and an SDK does.
    patient = server.client("bedrock-agentcore", retries={"total_max_attempts": 10, "mode": "standard"})
    return invoke(patient, made["agentRuntimeArn"], {}, session_id())[0]["greeting"]


def test_an_agent_from_a_bucket(server, moto):
    made = create(server, "from_bucket", "agents", "agent.zip")
    session = session_id()
    assert greeting(server, made) == "hello"
    assert [invoke(server.data, made["agentRuntimeArn"], {}, session)[0]["turn"] for _ in range(2)] == [1, 2]
    shown = server.control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"])["agentRuntimeArtifact"]
    assert shown["codeConfiguration"]["code"] == {"s3": {"bucket": "agents", "prefix": "agent.zip"}}


@pytest.mark.parametrize("number, key", enumerate(["a/b/c/agent.zip", "my agent.zip", "ünï/çode.zip", "plus+and=more&(so)~on!*'.zip", "per%20cent.zip"]))
def test_keys_with_odd_characters(server, moto, number, key):
    moto.put("agents", key, package(f"odd{number}"))
    assert greeting(server, create(server, f"odd{number}", "agents", key)) == f"odd{number}"


def test_a_version_of_an_object(server, moto):
    first = moto.put("agents", "versioned.zip", package("first"))
    second = moto.put("agents", "versioned.zip", package("second"))
    assert greeting(server, create(server, "version_one", "agents", "versioned.zip", versionId=first)) == "first"
    assert greeting(server, create(server, "version_two", "agents", "versioned.zip", versionId=second)) == "second"
    assert greeting(server, create(server, "version_last", "agents", "versioned.zip")) == "second"


def test_an_update_fetches_what_is_there_now(server, moto):
    moto.put("agents", "moving.zip", package("before"))
    made = create(server, "moving", "agents", "moving.zip")
    assert greeting(server, made) == "before"
    moto.put("agents", "moving.zip", package("after"))
    # Until somebody asks for a new version the old content serves.
    assert greeting(server, made) == "before"
    control, runtime = server.control, made["agentRuntimeId"]
    artifact = control.get_agent_runtime(agentRuntimeId=runtime)["agentRuntimeArtifact"]
    control.update_agent_runtime(
        agentRuntimeId=runtime, agentRuntimeArtifact=artifact, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"})
    assert greeting(server, made) == "after"


def test_a_replaced_object_is_refused_instead_of_run(make_server, moto, tmp_path):
    """A version runs the content that it was made with, also when it must be fetched again."""
    moto.put("agents", "pinned.zip", package("as-made"))
    server = make_server(args=configuration(tmp_path, {"good": (moto.url, *moto.keys["reader"], [])})).start()
    made = create(server, "pinned", "agents", "pinned.zip")
    assert greeting(server, made) == "as-made"

    def restart_without_packages():
        assert server.stop() == 0, server.stderr_text()
        shutil.rmtree(server.data_dir / "packages")
        server.start()

    restart_without_packages()
    assert greeting(server, made) == "as-made"
    moto.put("agents", "pinned.zip", package("another"))
    restart_without_packages()
    data, deadline = server.data, time.monotonic() + 30
    while True:
        try:
            pytest.fail(f"the answer was {invoke(data, made['agentRuntimeArn'], {})}")
        except data.exceptions.RetryableConflictException:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        except data.exceptions.RuntimeClientError as error:
            assert "s3://agents/pinned.zip was replaced" in str(error)
            break


@pytest.mark.parametrize(
    "name, bucket, key, more, says",
    [
        ("no_key", "agents", "missing.zip", {}, ["there is no such object", "s3://agents/missing.zip", "s3.good"]),
        ("no_bucket", "no-such-bucket", "agent.zip", {}, ["there is no such bucket", "s3://no-such-bucket/agent.zip"]),
        ("no_version", "agents", "agent.zip", {"versionId": "11111111-2222-3333-4444-555555555555"}, ["version", "s3://agents/agent.zip"]),
        ("wrong_secret", "for-wrong-secret", "agent.zip", {},
         ["secret access key is wrong", "s3://for-wrong-secret/agent.zip", "s3.wrong"]),
        ("unknown_key", "for-unknown-key", "agent.zip", {},
         ["does not know the configured access key", "s3://for-unknown-key/agent.zip", "s3.unknown"]),
        ("not_allowed", "for-stranger", "agent.zip", {}, ["s3:GetObject", "s3://for-stranger/agent.zip", "s3.stranger"]),
        ("away", "for-away", "agent.zip", {}, ["no connection to 127.0.0.1:", "s3://for-away/agent.zip", "s3.away", "tried 3 times"]),
        ("not_configured", "elsewhere", "agent.zip", {}, ["'elsewhere'", "s3.NAME", "eyot deploy"]),
    ],
)
def test_what_cannot_be_fetched_fails_the_creation(server, moto, name, bucket, key, more, says):
    made = create(server, name, bucket, key, **more)
    deadline = time.monotonic() + 60
    while (got := server.control.get_agent_runtime(agentRuntimeId=made["agentRuntimeId"]))["status"] == "CREATING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert got["status"] == "CREATE_FAILED", got
    for part in says:
        assert part in got["failureReason"], got["failureReason"]
    for secret in ("secret_access_key", moto.keys["reader"][1], moto.keys["stranger"][1]):
        assert secret not in got["failureReason"]
    data = server.data
    with pytest.raises(data.exceptions.RuntimeClientError):
        invoke(data, made["agentRuntimeArn"], {})
