"""Every error that the service models promise, provoked over the wire and caught by boto3 as its own class.

The list of what must be provoked comes from the models inside botocore, so a newly modelled error fails
`test_nothing_is_missing` until somebody says here how to provoke it or why it cannot occur.
"""

import json
import re
import socket
import sqlite3
import threading
import time
import urllib.request
from functools import cached_property
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpsession import URLLib3Session
from conftest import ROLE, Server, deploy_files, invoke, session_id, wait_endpoint

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
CONTROL, DATA = "bedrock-agentcore-control", "bedrock-agentcore"
OPERATIONS = {
    CONTROL: {
        "CreateAgentRuntime", "GetAgentRuntime", "UpdateAgentRuntime", "DeleteAgentRuntime", "ListAgentRuntimes",
        "ListAgentRuntimeVersions", "CreateAgentRuntimeEndpoint", "GetAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint",
        "DeleteAgentRuntimeEndpoint", "ListAgentRuntimeEndpoints", "TagResource", "UntagResource", "ListTagsForResource",
        "PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy",
    },
    DATA: {"InvokeAgentRuntime", "StopRuntimeSession"},
}
MODELS = {service: botocore.session.get_session().get_service_model(service) for service in OPERATIONS}
SERVICE = {operation: service for service, operations in OPERATIONS.items() for operation in operations}
STATUS = {
    (operation, shape.name): shape.metadata["error"]["httpStatusCode"]
    for operation, service in sorted(SERVICE.items())
    for shape in MODELS[service].operation_model(operation).error_shapes
}

# What the models promise and this version has no occasion for. Anything else must be provoked below.
IMPOSSIBLE = {
    ("StopRuntimeSession", "ServiceQuotaExceededException"): "ending a session uses nothing up",
    ("StopRuntimeSession", "RuntimeClientError"): "the agent is told, not asked: an agent that does not end is killed",
    ("StopRuntimeSession", "InternalServerException"): "no record, no disk and no package takes part in the end of a session",
    ("UpdateAgentRuntimeEndpoint", "ServiceQuotaExceededException"): "an update makes nothing that is counted",
}


def policy_about(arn):
    statement = {"Effect": "Allow", "Principal": {"AWS": "210987654321"}, "Action": "bedrock-agentcore:InvokeAgentRuntime", "Resource": arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Stage:
    """A server with one deployed runtime that has an endpoint `extra`."""

    def __init__(self, directory, name, env=None):
        env = {"EYOT__SERVER__DRAIN_GRACE": "1s", "EYOT__RUNTIME__SESSION__STOP_GRACE": "2s", **(env or {})}
        self.directory = directory / name
        self.server = Server(self.directory / "data", driver="process", env=env).start()
        self.arn = deploy_files(self.server, self.directory, "agent", {"main.py": PLAIN})
        self.id = self.arn.rsplit("/", 1)[1]
        self.clients = {service: self.server.client(service) for service in OPERATIONS}
        control = self.clients[CONTROL]
        self.artifact = control.get_agent_runtime(agentRuntimeId=self.id)["agentRuntimeArtifact"]
        control.create_agent_runtime_endpoint(agentRuntimeId=self.id, name="extra")
        wait_endpoint(control, self.id, "extra", "1")

    def settings(self, **more):
        return {"agentRuntimeArtifact": self.artifact, "roleArn": ROLE, "networkConfiguration": {"networkMode": "PUBLIC"}, **more}

    def input(self, operation, **changes):
        """An input that the operation would accept here, with changes."""
        runtime, tagged = {"agentRuntimeId": self.id}, {"resourceArn": self.arn}
        made = {
            "CreateAgentRuntime": self.settings(agentRuntimeName="another"),
            "GetAgentRuntime": runtime,
            "UpdateAgentRuntime": self.settings(**runtime),
            "DeleteAgentRuntime": runtime,
            "ListAgentRuntimes": {},
            "ListAgentRuntimeVersions": runtime,
            "CreateAgentRuntimeEndpoint": {**runtime, "name": "another"},
            "GetAgentRuntimeEndpoint": {**runtime, "endpointName": "extra"},
            "UpdateAgentRuntimeEndpoint": {**runtime, "endpointName": "extra", "agentRuntimeVersion": "1"},
            "DeleteAgentRuntimeEndpoint": {**runtime, "endpointName": "extra"},
            "ListAgentRuntimeEndpoints": runtime,
            "TagResource": {**tagged, "tags": {"team": "islands"}},
            "UntagResource": {**tagged, "tagKeys": ["team"]},
            "ListTagsForResource": tagged,
            "PutResourcePolicy": {**tagged, "policy": policy_about(self.arn)},
            "GetResourcePolicy": tagged,
            "DeleteResourcePolicy": tagged,
            "InvokeAgentRuntime": {"agentRuntimeArn": self.arn, "payload": b"{}"},
            "StopRuntimeSession": {"agentRuntimeArn": self.arn, "runtimeSessionId": session_id()},
        }
        return {**made[operation], **changes}

    def phases(self, phase):
        """How many sessions are in a phase now, by the server's own metrics."""
        text = urllib.request.urlopen(f"{self.server.url}/_eyot/metrics", timeout=10).read().decode()
        return sum(float(count) for count in re.findall(rf'^eyot_\S*sessions\S*"{phase}"\S* (\S+)$', text, re.MULTILINE))

    def await_phase(self, phase):
        deadline = time.monotonic() + 20
        while not self.phases(phase):
            assert time.monotonic() < deadline, f"no session became {phase}"
            time.sleep(0.02)


class World:
    """The servers that errors are provoked on, each started when the first test wants it."""

    def __init__(self, directory):
        self.directory = directory
        self.held = []
        self.threads = []
        self.waiting = []

    @cached_property
    def healthy(self):
        self.silence = socket.create_server(("127.0.0.1", 0))  # takes connections in, never says a word
        silent = {
            "EYOT__RUNTIME__S3__SILENT__ENDPOINT": f"http://127.0.0.1:{self.silence.getsockname()[1]}",
            "EYOT__RUNTIME__S3__SILENT__ACCESS_KEY_ID": "AK",
            "EYOT__RUNTIME__S3__SILENT__SECRET_ACCESS_KEY": "hush",
        }
        return Stage(self.directory, "healthy", silent)

    @property
    def creating(self):
        """Id of a runtime that is CREATING and stays so for a minute and a half: its artifact never arrives."""
        control = self.healthy.clients[CONTROL]
        if self.waiting and control.get_agent_runtime(agentRuntimeId=self.waiting[-1])["status"] == "CREATING":
            return self.waiting[-1]
        code = {"s3": {"bucket": "silent-bucket", "prefix": "agent.zip"}}
        artifact = {"codeConfiguration": {**self.healthy.artifact["codeConfiguration"], "code": code}}
        made = control.create_agent_runtime(
            **self.healthy.settings(agentRuntimeName=f"waiting{len(self.waiting)}", agentRuntimeArtifact=artifact))
        assert made["status"] == "CREATING"
        self.waiting.append(made["agentRuntimeId"])
        return made["agentRuntimeId"]

    @cached_property
    def tight(self):
        """A server where everything that is counted is used up."""
        stage = Stage(self.directory, "tight", {
            "EYOT__RUNTIME__QUOTAS__RUNTIMES": "1",
            "EYOT__RUNTIME__QUOTAS__VERSIONS_PER_RUNTIME": "1",
            "EYOT__RUNTIME__QUOTAS__ENDPOINTS_PER_RUNTIME": "2",
            "EYOT__RUNTIME__SESSION__MAX_SESSIONS": "1",
        })
        invoke(stage.clients[DATA], stage.arn, {}, session_id())
        stage.clients[CONTROL].tag_resource(resourceArn=stage.arn, tags={f"tag{n}": "x" for n in range(50)})
        return stage

    @cached_property
    def busy(self):
        """A server that works on as many calls as it may: answers that nobody reads to their end."""
        stage = Stage(self.directory, "busy", {"EYOT__SERVER__MAX_CALLS": "3"})
        for _ in range(3):
            payload = json.dumps({"act": "drip", "count": 100_000, "pause": 0.1}).encode()
            self.held.append(stage.clients[DATA].invoke_agent_runtime(agentRuntimeArn=stage.arn, payload=payload)["response"])
        return stage

    @cached_property
    def damaged(self):
        """A server whose records are garbage and whose directory for large bodies is gone."""
        spool = self.directory / "spool"
        spool.mkdir()
        stage = Stage(self.directory, "damaged", {"EYOT__SERVER__SPOOL_DIR": str(spool)})
        spool.rmdir()
        with sqlite3.connect(stage.server.data_dir / "state.db", timeout=20) as records:
            changed = records.execute("UPDATE records SET value = ? WHERE kind IN ('runtime', 'runtime-name')", (b"\x00garbage",))
            assert changed.rowcount == 2
        records.close()
        return stage

    @cached_property
    def guarded(self):
        """ARN of a runtime that takes bearer tokens."""
        stage = self.healthy
        jwt = {"discoveryUrl": "https://login.example/.well-known/openid-configuration", "allowedAudience": ["agents"]}
        made = stage.clients[CONTROL].create_agent_runtime(
            **stage.settings(agentRuntimeName="guarded", authorizerConfiguration={"customJWTAuthorizer": jwt}))
        wait_endpoint(stage.clients[CONTROL], made["agentRuntimeId"], "DEFAULT", "1")
        return made["agentRuntimeArn"]

    def in_background(self, call):
        """Makes a call whose outcome does not matter; it ends with the server at the latest."""
        def quietly():
            try:
                call()
            except Exception:  # the server may be gone before the call is
                pass
        thread = threading.Thread(target=quietly)
        thread.start()
        self.threads.append(thread)

    def end(self):
        for stream in self.held:
            stream.close()
        stages = [self.__dict__[name] for name in ("healthy", "tight", "busy", "damaged") if name in self.__dict__]
        codes = {stage.directory.name: stage.server.stop() for stage in stages}
        for thread in self.threads:
            thread.join(30)
        if "silence" in self.__dict__:
            self.silence.close()
        assert set(codes.values()) <= {0}, codes


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("errors"))
    yield world
    world.end()


# Ways to provoke an error: each takes the world and the operation and answers the client and the input that do it.

WAYS = {}


def way(error, *operations, name=None, says):
    """Registers a way for operations, or for every operation that models the error; the message says why it was this one."""
    def register(provoke):
        label = name or provoke.__name__
        for operation in operations or [o for o, e in STATUS if e == error]:
            if (operation, error) not in IMPOSSIBLE:
                WAYS.setdefault((operation, error), {})[label] = (provoke, says)
        return provoke
    return register


def changes(error, operation, label, says, /, **values):
    """Registers a change of a good input of a healthy server as a way."""
    def provoke(world, operation):
        stage = world.healthy
        client = stage.server.client(SERVICE[operation], parameter_validation=False)
        return client, stage.input(operation, **{k: v(world) if callable(v) else v for k, v in values.items()})
    way(error, operation, name=label, says=says)(provoke)


@way("AccessDeniedException", says="signature")
def wrong_secret(world, operation):
    stage = world.healthy
    client = boto3.client(
        SERVICE[operation], endpoint_url=stage.server.url, region_name="us-west-2",
        aws_access_key_id=stage.server.env()["AWS_ACCESS_KEY_ID"], aws_secret_access_key="not-the-secret",
        config=Config(retries={"total_max_attempts": 1}),
    )
    return client, stage.input(operation)


@way("UnauthorizedException", "StopRuntimeSession", says="bearer token")
def no_token(world, operation):
    stage = world.healthy
    unsigned = boto3.client(
        SERVICE[operation], endpoint_url=stage.server.url, region_name="us-west-2",
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    return unsigned, stage.input(operation, agentRuntimeArn=world.guarded)


@way("ThrottlingException", says="busy")
def busy_server(world, operation):
    return world.busy.clients[SERVICE[operation]], world.busy.input(operation)


@way("InternalServerException", *(OPERATIONS[CONTROL] - {"CreateAgentRuntime"}), says="record of runtime")
def damaged_records(world, operation):
    return world.damaged.clients[CONTROL], world.damaged.input(operation)


@way("InternalServerException", "CreateAgentRuntime", says="record of runtime-name")
def damaged_name(world, operation):
    return world.damaged.clients[CONTROL], world.damaged.input(operation, agentRuntimeName="agent")


@way("InternalServerException", "InvokeAgentRuntime", says="could not write")
def no_room_for_the_body(world, operation):
    return world.damaged.clients[DATA], world.damaged.input(operation, payload=b"x" * 1_000_000)


@way("ResourceNotFoundException", says="no agent runtime 'nobody-0123456789'")
def unknown_runtime(world, operation):
    stage, unknown = world.healthy, "nobody-0123456789"
    ask = stage.input(operation)
    for member in ("agentRuntimeId", "agentRuntimeArn", "resourceArn", "policy"):
        if member in ask:
            ask[member] = ask[member].replace(stage.id, unknown)
    assert unknown in str(ask)
    return stage.clients[SERVICE[operation]], ask


for operation in ("GetAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint", "DeleteAgentRuntimeEndpoint"):
    changes("ResourceNotFoundException", operation, "unknown_endpoint", "no endpoint 'nowhere'", endpointName="nowhere")
for operation in ("GetAgentRuntime", "DeleteAgentRuntime", "CreateAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint"):
    changes("ResourceNotFoundException", operation, "unknown_version", "no version 77", agentRuntimeVersion="77")
changes("ResourceNotFoundException", "InvokeAgentRuntime", "unknown_endpoint", "no endpoint 'nowhere'", qualifier="nowhere")
changes("ResourceNotFoundException", "StopRuntimeSession", "unknown_session", "no such session", runtimeSessionId=lambda _: session_id())

for operation in ("GetAgentRuntime", "UpdateAgentRuntime", "ListAgentRuntimeVersions", "CreateAgentRuntimeEndpoint",
                  "GetAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint", "ListAgentRuntimeEndpoints"):
    changes("ValidationException", operation, "id_with_spaces", "agentRuntimeId", agentRuntimeId="not an id")
for operation in ("ListAgentRuntimes", "ListAgentRuntimeVersions", "ListAgentRuntimeEndpoints"):
    changes("ValidationException", operation, "made_up_token", "nextToken", nextToken="bm90IGEgdG9rZW4")
    changes("ValidationException", operation, "too_large_a_page", "maxResults", maxResults=1000)
for operation in ("CreateAgentRuntime", "UpdateAgentRuntime"):
    changes("ValidationException", operation, "not_a_role", "roleArn", roleArn="nobody")
    changes("ValidationException", operation, "idle_longer_than_life", "idleRuntimeSessionTimeout",
            lifecycleConfiguration={"idleRuntimeSessionTimeout": 600, "maxLifetime": 300})
changes("ResourceNotFoundException", "GetResourcePolicy", "no_policy", "has no resource policy")
changes("ResourceNotFoundException", "DeleteResourcePolicy", "no_policy", "has no resource policy")
changes("ValidationException", "PutResourcePolicy", "about_another", "Statement[0].Resource", policy=policy_about("arn:aws:x"))
changes("ValidationException", "PutResourcePolicy", "no_policy_at_all", "policy", policy="{}")
for operation in ("TagResource", "UntagResource", "ListTagsForResource", "PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy"):
    changes("ValidationException", operation, "not_an_arn", "resourceArn", resourceArn="nonsense")
changes("ValidationException", "TagResource", "reserved_key", "'aws:name'", tags={"aws:name": "x"})
changes("ValidationException", "InvokeAgentRuntime", "id_without_account", "accountId", agentRuntimeArn=lambda world: world.healthy.id)
for operation in ("InvokeAgentRuntime", "StopRuntimeSession"):
    changes("ValidationException", operation, "short_session_id", "runtimeSessionId", runtimeSessionId="short")

changes("ConflictException", "CreateAgentRuntime", "name_in_use", "named 'agent' exists", agentRuntimeName="agent")
changes("ConflictException", "UpdateAgentRuntime", "while_creating", "is CREATING", agentRuntimeId=lambda world: world.creating)
changes("ConflictException", "DeleteAgentRuntime", "while_creating", "is CREATING", agentRuntimeId=lambda world: world.creating)
changes("ConflictException", "DeleteAgentRuntime", "version_in_use", "in use by endpoint", agentRuntimeVersion="1")
changes("ConflictException", "CreateAgentRuntimeEndpoint", "name_in_use", "'extra' already", name="extra")
changes("ConflictException", "CreateAgentRuntimeEndpoint", "default_again", "'DEFAULT' already", name="DEFAULT")
changes("ConflictException", "UpdateAgentRuntimeEndpoint", "default_follows", "follows the latest version", endpointName="DEFAULT", agentRuntimeVersion="1")
changes("ConflictException", "DeleteAgentRuntimeEndpoint", "default_stays", "deleted only with it", endpointName="DEFAULT")


@way("ConflictException", "CreateAgentRuntime", "UpdateAgentRuntime", "CreateAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint", says="clientToken")
def token_used_for_something_else(world, operation):
    stage, token = world.healthy, f"{operation}-{'t' * 40}"
    ask = stage.input(operation, clientToken=token, description="first")
    if operation == "CreateAgentRuntime":
        ask["agentRuntimeName"] = "tokens"
    if operation == "CreateAgentRuntimeEndpoint":
        ask["name"] = "tokens"
    call(stage.clients[CONTROL], operation, ask)
    return stage.clients[CONTROL], {**ask, "description": "second"}


@way("ConflictException", "DeleteAgentRuntimeEndpoint", says="clientToken")
def token_used_for_another(world, operation):
    control, runtime = world.healthy.clients[CONTROL], world.healthy.id
    for name in ("going", "staying"):
        control.create_agent_runtime_endpoint(agentRuntimeId=runtime, name=name)
        wait_endpoint(control, runtime, name, control.get_agent_runtime(agentRuntimeId=runtime)["agentRuntimeVersion"])
    ask = {"agentRuntimeId": runtime, "endpointName": "going", "clientToken": "d" * 40}
    control.delete_agent_runtime_endpoint(**ask)
    return control, {**ask, "endpointName": "staying"}


@way("ConflictException", "StopRuntimeSession", says="clientToken")
def token_that_stopped_another(world, operation):
    stage = world.healthy
    ask = stage.input(operation, clientToken="s" * 40)
    invoke(stage.clients[DATA], stage.arn, {}, ask["runtimeSessionId"])
    call(stage.clients[DATA], operation, ask)
    return stage.clients[DATA], {**ask, "runtimeSessionId": session_id()}


@way("ServiceQuotaExceededException", says="at most")
def all_used_up(world, operation):
    return world.tight.clients[SERVICE[operation]], world.tight.input(operation)


@way("RuntimeClientError", "InvokeAgentRuntime", says="(500)")
def agent_says_500(world, operation):
    return world.healthy.clients[DATA], world.healthy.input(operation, payload=b'{"act": "status", "status": 500}')


@way("RuntimeClientError", "InvokeAgentRuntime", says="exited with code 3")
def agent_dies(world, operation):
    return world.healthy.clients[DATA], world.healthy.input(operation, payload=b'{"act": "exit"}')


@way("RetryableConflictException", "InvokeAgentRuntime", says="being made ready")
def runtime_is_being_made(world, operation):
    arn = world.healthy.arn.replace(world.healthy.id, world.creating)
    return world.healthy.clients[DATA], world.healthy.input(operation, agentRuntimeArn=arn)


@way("RetryableConflictException", "StopRuntimeSession", says="in progress")
def session_is_ending(world, operation):
    """The agent ignores SIGTERM, so its session is ending for as long as the grace lasts."""
    stage, session = world.healthy, session_id()
    invoke(stage.clients[DATA], stage.arn, {"act": "stubborn"}, session)
    ask = stage.input(operation, runtimeSessionId=session)
    world.in_background(lambda: call(stage.clients[DATA], operation, ask))
    stage.await_phase("terminating")
    return stage.clients[DATA], ask


@way("RetryableConflictException", "StopRuntimeSession", says="in progress")
def session_is_starting(world, operation):
    stage, session = world.healthy, session_id()
    arn = deploy_files(stage.server, stage.directory, "mute", {"main.py": PLAIN}, "--env", "AGENT_NEVER_LISTENS=1")
    world.in_background(lambda: invoke(stage.clients[DATA], arn, {}, session))
    stage.await_phase("provisioning")
    return stage.clients[DATA], stage.input(operation, agentRuntimeArn=arn, runtimeSessionId=session)


def call(client, operation, ask):
    return getattr(client, botocore.xform_name(operation))(**ask)


CASES = [
    pytest.param(operation, error, provoke, says, id=f"{operation}-{error}-{name}")
    for (operation, error) in STATUS
    for name, (provoke, says) in WAYS.get((operation, error), {}).items()
]


@pytest.mark.parametrize("operation, error, provoke, says", CASES)
def test_error(world, operation, error, provoke, says):
    client, ask = provoke(world, operation)
    with pytest.raises(getattr(client.exceptions, error)) as caught:
        call(client, operation, ask)
    response = caught.value.response
    assert type(caught.value).__name__ == response["Error"]["Code"] == error
    assert says in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == STATUS[operation, error]
    headers = response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-requestid"] == response["ResponseMetadata"]["RequestId"] != ""
    assert headers["x-amzn-errortype"] == error and ("www-authenticate" in headers) == (error == "UnauthorizedException")


def test_nothing_is_missing():
    """What is modelled is provoked above, or is in the table of what cannot occur; not both, and nothing else."""
    assert set(WAYS) | set(IMPOSSIBLE) == set(STATUS)
    assert set(WAYS).isdisjoint(IMPOSSIBLE)


def test_the_list_of_operations_is_complete(world):
    """Every operation of both models is asked for: those of the list are answered, all others are not there yet."""
    env = world.healthy.server.env()
    credentials = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    http, answered = URLLib3Session(), set()
    for service, model in MODELS.items():
        for name in model.operation_names:
            method, uri = (model.operation_model(name).http[part] for part in ("method", "requestUri"))
            url = world.healthy.server.url + re.sub(r"\{[^}]+\}", "nothing", uri)
            request = AWSRequest(method, url, data=b"{}" if method in ("POST", "PUT", "PATCH") else b"")
            SigV4Auth(credentials, "bedrock-agentcore", env["AWS_REGION"]).add_auth(request)
            status = http.send(request.prepare()).status_code
            assert status < 500 or status == 501, (name, status)
            if status != 501:
                answered.add((service, name))
    listed = {(service, name) for service, names in OPERATIONS.items() for name in names}
    assert answered == listed
