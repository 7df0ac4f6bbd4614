"""The server without root: the same walls from its own namespaces, and an honest word about those that are missing."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import EYOT, Server, deploy_files, invoke, sandbox_leftovers, session_id

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
# An id that no account of a usual system has, so that every process of it comes from this test.
SOMEBODY = 54321
PATH = "/usr/local/bin:/usr/bin:/bin"
LOOKER = '''
import json, os, pathlib, signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOTES = pathlib.Path("notes.txt")

class Agent(BaseHTTPRequestHandler):
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "note" in ask:
            with NOTES.open("a") as file:
                file.write(ask["note"] + "\\n")
        status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
        self.answer({
            "notes": NOTES.read_text().splitlines() if NOTES.exists() else [],
            "uid": os.getuid(),
            "capabilities": int(status["CapEff"], 16),
            "no_new_privileges": status["NoNewPrivs"].strip(),
            "seccomp": status["Seccomp"].strip(),
            "processes": sum(name.isdigit() for name in os.listdir("/proc")),
            "sees": os.path.exists(ask["look"]),
            "spaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "pid", "mnt", "net", "ipc", "uts")},
        })

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", 8080))), Agent).serve_forever()
'''


@pytest.fixture(scope="module")
def home():
    """A directory of the ordinary user's own, with a copy of the program that the user may run."""
    # Not below pytest's own directory, which only its owner may enter.
    directory = Path(tempfile.mkdtemp(prefix="eyot-user-"))
    shutil.copy(EYOT, directory / "eyot")
    (directory / "eyot").chmod(0o755)
    directory.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(directory, SOMEBODY, SOMEBODY)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def run_as(home):
    """What makes a subprocess the ordinary user's: nothing, when that is who runs the tests."""
    if os.geteuid() != 0:
        return {}
    settings = {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": [], "cwd": home}
    if subprocess.run([home / "eyot", "--version"], capture_output=True, timeout=20, **settings).returncode != 0:
        pytest.skip(f"user {SOMEBODY} may not run a program in {home}")
    return settings


@pytest.fixture(scope="module")
def python(run_as):
    """A managed runtime whose interpreter the ordinary user may run."""
    for minor in (14, 13, 12, 11, 10):
        program = shutil.which(f"python3.{minor}", path=PATH)
        if program and subprocess.run([program, "-c", ""], timeout=20, **run_as).returncode == 0:
            return f"PYTHON_3_{minor}"
    pytest.skip(f"there is no Python in {PATH} for an ordinary user")


@pytest.fixture
def serve(home, run_as):
    """Starts a server as the ordinary user; it is taken down at the end."""
    servers = []

    def start(driver):
        base = home / driver
        data_dir = base / "data"
        data_dir.mkdir(parents=True)
        if run_as:
            for directory in (base, data_dir):
                os.chown(directory, SOMEBODY, SOMEBODY)
        # Sandboxes are counted below: none that is only ready.
        env = {"HOME": str(base), "PATH": PATH, "TMPDIR": str(base), "EYOT__RUNTIME__SESSION__WARM__MAX": "0"}
        server = Server(data_dir, driver=driver, env=env, binary=str(home / "eyot"), run_as=run_as)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


def need_namespaces(run_as):
    """Skips where the kernel gives an ordinary user no namespaces, which no program can change."""
    tool = shutil.which("unshare")
    if not tool:
        pytest.skip("without the program `unshare` it is not known whether this host permits user namespaces")
    tried = subprocess.run(
        [tool, "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "true"],
        capture_output=True, text=True, timeout=20, **run_as,
    )
    if tried.returncode != 0:
        pytest.skip(f"this host gives an ordinary user no namespaces: {tried.stderr.strip()}")


def processes_of(uid):
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
                if str(uid) in status["Uid"].split():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, KeyError):
                pass
    return found


def end(server, run_as):
    """Stops the server and looks for what it left."""
    pid = server.process.pid
    assert server.stop() == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []
    if run_as:
        # Orphans of a killed sandbox are reaped by the system in a moment.
        deadline = time.monotonic() + 5
        while (left := processes_of(SOMEBODY)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == {}
    assert not Path(f"/proc/{pid}").exists()


def test_the_server_is_not_root(serve, run_as):
    server = serve("auto")
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    uid = SOMEBODY if run_as else os.geteuid()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
    assert server.control.list_agent_runtimes()["agentRuntimes"] == []
    for file in server.data_dir.rglob("*"):
        assert file.lstat().st_uid == uid, f"{file} is not the user's own"
    end(server, run_as)


def test_container_driver(serve, run_as, python, tmp_path):
    need_namespaces(run_as)
    server = serve("container")
    assert server.driver == "container"
    if run_as:
        # Nobody has delegated a control group to this user.
        assert "no limit of memory" in server.stderr_text() and "WARN" in server.stderr_text(), server.stderr_text()

    plain = deploy_files(server, tmp_path, "plain", {"main.py": PLAIN}, runtime=python)
    session = session_id()
    assert [invoke(server.data, plain, {}, session)[0]["turn"] for _ in range(3)] == [1, 2, 3]
    reply = server.data.invoke_agent_runtime(agentRuntimeArn=plain, payload=b'{"act": "drip", "count": 3, "pause": 0.05}')
    assert reply["response"].read().count(b"data:") == 3

    looker = deploy_files(server, tmp_path, "looker", {"main.py": LOOKER}, runtime=python)
    one, two = session_id(), session_id()
    look = {"look": str(server.data_dir)}
    invoke(server.data, looker, {"note": "mine", **look}, one)
    first, _ = invoke(server.data, looker, {"note": "mine again", **look}, one)
    second, _ = invoke(server.data, looker, look, two)
    assert first["notes"] == ["mine", "mine again"] and second["notes"] == []
    for seen in (first, second):
        assert seen["uid"] != 0 and seen["capabilities"] == 0
        assert (seen["no_new_privileges"], seen["seccomp"]) == ("1", "2")
        assert seen["processes"] <= 3, "an agent sees processes that are not its sandbox's"
        assert not seen["sees"], "an agent sees the server's data directory"
    own = {name: os.readlink(f"/proc/{server.process.pid}/ns/{name}") for name in first["spaces"]}
    for name in own:
        assert len({first["spaces"][name], second["spaces"][name], own[name]}) == 3, f"the {name} namespace is shared"

    if run_as:
        # Seen from outside every process of every sandbox is the ordinary user's and none is root's.
        agents = [pid for pid, command in processes_of(SOMEBODY).items() if "main.py" in command]
        assert len(agents) == 4, processes_of(SOMEBODY)

    server.data.stop_runtime_session(agentRuntimeArn=looker, runtimeSessionId=one)
    fresh, _ = invoke(server.data, looker, look, one)
    assert fresh["notes"] == []
    end(server, run_as)


def test_process_driver(serve, run_as, python, tmp_path):
    server = serve("process")
    assert server.driver == "process" and "isolat" in server.stderr_text().lower()
    arn = deploy_files(server, tmp_path, "plain", {"main.py": PLAIN}, runtime=python)
    one, two = session_id(), session_id()
    assert [invoke(server.data, arn, {}, one)[0]["turn"] for _ in range(2)] == [1, 2]
    assert invoke(server.data, arn, {}, two)[0]["turn"] == 1
    server.data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=one)
    assert invoke(server.data, arn, {}, one)[0]["turn"] == 1
    end(server, run_as)
