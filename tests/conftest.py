"""Fixtures of the black-box tests: the real binary, driven by real clients.

EYOT_BIN names the binary; `cargo xtask test` sets it. Everything runs on loopback, in temporary directories, and is
taken down again also when a test fails.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

EYOT = os.environ.get("EYOT_BIN", str(Path(__file__).parent.parent / "target/release/eyot"))
EXAMPLES = Path(__file__).parent.parent / "examples"
ROLE = "arn:aws:iam::123456789012:role/agent"
PYTHON = f"PYTHON_{sys.version_info.major}_{sys.version_info.minor}"


# Tests call faster than people. Those that are about limits set their own.
UNLIMITED = {
    f"EYOT__RUNTIME__QUOTAS__RATES__{rate}": "0"
    for rate in (
        "INVOKE_PER_SECOND", "STOP_PER_SECOND", "CREATE_PER_SECOND", "UPDATE_PER_SECOND", "DELETE_PER_SECOND",
        "LIST_PER_SECOND", "GET_PER_SECOND", "NEW_SESSIONS_PER_MINUTE",
    )
}


class Server:
    """One `eyot serve` and clients for it."""

    def __init__(self, data_dir, driver="auto", env=None, args=(), binary=EYOT, run_as=None):
        self.data_dir = Path(data_dir)
        self.driver_wanted = driver
        self.extra_env = env or {}
        self.args = list(args)
        self.binary = binary
        self.run_as = run_as or {}  # `user`, `group` and such, for subprocess
        self.process = None
        self.url = None
        self.driver = None

    def start(self, listen="127.0.0.1:0"):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EYOT__"))}
        env.update(UNLIMITED)
        env.update(self.extra_env)
        command = [self.binary, "serve", "--listen", listen, "--data-dir", str(self.data_dir), "--driver", self.driver_wanted]
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.stderr = open(self.data_dir.parent / f"{self.data_dir.name}.stderr", "ab")
        self.process = subprocess.Popen(
            command + self.args, env=env, stdout=subprocess.PIPE, stderr=self.stderr, text=True, **self.run_as
        )
        line = self.process.stdout.readline()
        match = re.search(r"(https?://\S+).*driver[ :]+(\w+)", line)
        if not match:
            self.process.wait(10)
            raise AssertionError(f"no ready line but {line!r}; stderr:\n{self.stderr_text()}")
        self.url, self.driver = match.group(1).rstrip(",;"), match.group(2)
        return self

    def stderr_text(self):
        return Path(self.stderr.name).read_text(errors="replace")[-6000:]

    def env(self):
        """What `eyot env` prints."""
        out = subprocess.run(
            [self.binary, "env", "--data-dir", str(self.data_dir), "--format", "json"],
            check=True, capture_output=True, text=True, timeout=20, **self.run_as,
        )
        return json.loads(out.stdout)

    def client(self, service, **config):
        env = self.env()
        variable = {
            "bedrock-agentcore": "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE",
            "bedrock-agentcore-control": "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL",
        }[service]
        config.setdefault("retries", {"total_max_attempts": 1})
        config.setdefault("read_timeout", 120)
        return boto3.client(
            service,
            endpoint_url=env[variable],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=Config(**config),
        )

    @property
    def control(self):
        return self.client("bedrock-agentcore-control")

    @property
    def data(self):
        return self.client("bedrock-agentcore")

    def cli(self, *args, check=True, env=None, **kwargs):
        """Runs a client command of the binary against this server."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EYOT__"))}
        base.update({k: v for k, v in self.env().items()})
        base.update(env or {})
        kwargs.setdefault("timeout", 300)
        done = subprocess.run([self.binary, *args], env=base, capture_output=True, text=True, **kwargs)
        if check and done.returncode != 0:
            raise AssertionError(f"eyot {args} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}\n{self.stderr_text()}")
        return done

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def stop(self, how=signal.SIGINT):
        """SIGINT ends the server and its sessions; after SIGTERM sessions go on for the next server."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        return self.process.returncode if self.process else None


def signed(server, method, path, body=b""):
    """A signed request to a path of ours; answers its JSON."""
    env = server.env()
    request = AWSRequest(method=method, url=server.url + path, data=body)
    credentials = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(credentials, "bedrock-agentcore", env["AWS_REGION"]).add_auth(request)
    plain = urllib.request.Request(request.url, data=body or None, headers=dict(request.headers), method=method)
    with urllib.request.urlopen(plain, timeout=60) as reply:
        return json.load(reply)


def wait_ready(control, runtime_id, timeout=120):
    """Polls until the runtime is READY; a failure or a time-out fails the test with the reason."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        got = control.get_agent_runtime(agentRuntimeId=runtime_id)
        if got["status"] == "READY":
            return got
        if got["status"].endswith("FAILED"):
            raise AssertionError(f"{got['status']}: {got.get('failureReason')}")
        time.sleep(0.05)
    raise AssertionError(f"runtime {runtime_id} is still {got['status']} after {timeout} s")


def wait_endpoint(control, runtime_id, name, version, timeout=60):
    """Polls until the endpoint serves the version."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        got = control.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName=name)
        if got["status"] == "READY" and got.get("liveVersion") == version:
            return got
        assert not got["status"].endswith("FAILED"), got
        time.sleep(0.05)
    raise AssertionError(f"endpoint {name} is {got}")


def wait_gone(call, exception, timeout=60):
    """Polls until the call raises the exception."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            call()
        except exception:
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")


def session_id():
    return f"session-{uuid.uuid4()}"


def invoke(data, arn, payload, session=None, **kwargs):
    """One invocation with a JSON answer; answers (document, session id)."""
    if session:
        kwargs["runtimeSessionId"] = session
    reply = data.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps(payload).encode(), **kwargs)
    return json.loads(reply["response"].read()), reply["runtimeSessionId"]


def holds(process, data_dir):
    """Whether a process has anything to do with a data directory: command line, environment, directory, open files."""
    if data_dir.encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
        return True
    links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
    for link in links:
        try:
            if f"{data_dir}/" in os.readlink(link):
                return True
        except OSError:
            pass  # closed meanwhile
    return False


def sandbox_leftovers(data_dir):
    """What a server's sandboxes left on this machine: processes, mounts, directories."""
    data_dir = str(data_dir)
    left = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and int(process.name) != os.getpid() and holds(process, data_dir):
                left.append(f"process {process.name}: {(process / 'cmdline').read_bytes()}")
        except OSError:
            pass  # ended meanwhile
    sandboxes = Path(data_dir) / "sandboxes"
    if sandboxes.is_dir():
        left += [f"directory {d}" for d in sandboxes.iterdir() if d.is_dir() and not d.name.startswith(".")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"mount {line}" for line in mounts if data_dir in line]
    return left


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """A server with the strongest driver that tests share when they do not stop or restart it."""
    server = Server(tmp_path_factory.mktemp("shared") / "data").start()
    yield server
    code = server.stop()
    assert code == 0, f"eyot serve ended with {code}:\n{server.stderr_text()}"
    assert sandbox_leftovers(server.data_dir) == []


@pytest.fixture
def make_server(tmp_path):
    """Makes servers of the test's own; all are taken down at its end."""
    servers = []

    def make(name="data", **kwargs):
        server = Server(tmp_path / name, **kwargs)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def python_agent(shared_server):
    """The example agent, deployed with `eyot deploy`; answers its ARN."""
    source = EXAMPLES / "python-agent"
    done = shared_server.cli("deploy", str(source), "--name", "python_agent", "--runtime", PYTHON)
    return re.search(r"arn:aws:bedrock-agentcore:\S+", done.stdout).group(0).rstrip("'\",")


def deploy_files(server, tmp_path, name, files, *args, runtime=PYTHON, check=True):
    """Deploys a directory made of {path: text or (bytes, mode)}; answers the ARN or the finished process."""
    source = tmp_path / f"source-{name}"
    shutil.rmtree(source, ignore_errors=True)
    for path, content in files.items():
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    done = server.cli("deploy", str(source), "--name", name, "--runtime", runtime, *args, check=check)
    if not check:
        return done
    return re.search(r"arn:aws:bedrock-agentcore:\S+", done.stdout).group(0).rstrip("'\",")
