"""The command line as a newcomer uses it."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import EXAMPLES, EYOT, deploy_files, invoke, sandbox_leftovers, session_id

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
CLEAN_ENV = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EYOT__", "EYOT_DATA"))}


def eyot(*args, env=None, timeout=120):
    return subprocess.run([EYOT, *args], env={**CLEAN_ENV, **(env or {})}, capture_output=True, text=True, timeout=timeout)


def test_quickstart_shows_two_sessions_and_a_stream():
    done = eyot("quickstart", "--exit", "--listen", "127.0.0.1:0")
    assert done.returncode == 0, done.stderr
    assert re.search(r"driver", done.stdout) and "boto3" in done.stdout
    # Each session counts for itself.
    assert done.stdout.count('"turn":1') + done.stdout.count('"turn": 1') >= 2
    assert '"turn":2' in done.stdout or '"turn": 2' in done.stdout
    assert "data:" in done.stdout


def test_env_in_shell_form_works_in_a_shell(shared_server):
    script = f'eval "$({EYOT} env --data-dir {shared_server.data_dir})" && env'
    done = subprocess.run(["sh", "-c", script], env=CLEAN_ENV, capture_output=True, text=True, timeout=60, check=True)
    assert f"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE={shared_server.url}" in done.stdout
    assert f"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL={shared_server.url}" in done.stdout
    assert "AWS_ACCESS_KEY_ID=AKIA" in done.stdout


def test_client_commands_find_the_server_by_its_data_directory(shared_server, tmp_path):
    deploy_files(shared_server, tmp_path, "found", {"main.py": PLAIN})
    done = eyot("invoke", "found", "{}", "--data-dir", str(shared_server.data_dir))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["turn"] == 1


def test_deploy_asks_the_server_where_to_upload(make_server, tmp_path):
    limits = {"EYOT__RUNTIME__ARTIFACTS__BUCKET": "our-code", "EYOT__RUNTIME__ARTIFACTS__MAX_OBJECT_BYTES": "100000"}
    server = make_server(env=limits).start()
    arn = deploy_files(server, tmp_path, "named", {"main.py": PLAIN})
    made = server.control.get_agent_runtime(agentRuntimeId=arn.rsplit("/", 1)[1])
    assert made["agentRuntimeArtifact"]["codeConfiguration"]["code"]["s3"]["bucket"] == "our-code"
    large = tmp_path / "large"
    large.mkdir()
    (large / "main.py").write_text(PLAIN)
    (large / "noise").write_bytes(os.urandom(200_000))
    refused = eyot("deploy", str(large), env=server.env())
    assert refused.returncode != 0 and "at most 100000" in refused.stderr, refused.stderr


def test_boto3_needs_only_the_variables(shared_server):
    code = "import boto3; print(boto3.client('bedrock-agentcore-control').list_agent_runtimes()['agentRuntimes'] is not None)"
    done = subprocess.run([sys.executable, "-c", code], env={**CLEAN_ENV, **shared_server.env()}, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True", done.stderr


def test_invoke_prints_a_stream_as_it_arrives(shared_server, tmp_path):
    deploy_files(shared_server, tmp_path, "drips", {"main.py": PLAIN})
    process = subprocess.Popen(
        [EYOT, "invoke", "drips", '{"act":"drip","count":5,"pause":0.3}', "--session", session_id()],
        env={**CLEAN_ENV, **shared_server.env()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    first = process.stdout.readline()
    started = time.monotonic()
    rest = process.stdout.read()
    assert process.wait(30) == 0
    assert first == b'data: {"n": 0}\n' and b'"n": 4' in rest
    assert time.monotonic() - started > 0.6


@pytest.mark.parametrize(
    "args, says",
    [
        (["deploy", "/no/such/directory"], "/no/such/directory"),
        (["deploy", str(EXAMPLES), "--entry-point", "none.py"], "none.py"),
        (["deploy", str(EXAMPLES / "python-agent"), "--name", "1 bad"], "name"),
        (["deploy", str(EXAMPLES / "python-agent"), "--runtime", "PYTHON_2_7"], "PYTHON_2_7"),
        (["invoke", "no_such_agent", "{}"], "no_such_agent"),
        (["invoke", "no_such_agent", "@/no/such/file"], "/no/such/file"),
        (["invoke", "x", "{}", "--session", "short"], "33"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(shared_server, args, says):
    done = shared_server.cli(*args, check=False)
    assert done.returncode != 0 and says in done.stderr, (done.stdout, done.stderr)


def test_no_server_says_how_to_start_one(tmp_path):
    for command in (["env"], ["invoke", "x", "{}"]):
        done = eyot(*command, "--data-dir", str(tmp_path / "none"))
        assert done.returncode != 0 and "eyot serve" in done.stderr


def test_serve_refuses_a_bad_configuration(tmp_path):
    file = tmp_path / "eyot.toml"
    for text, says in [("lisen = 'x'", "lisen"), ("listen = 'nowhere'", "listen"), ("[server]\nnonsense = 1", "nonsense"), ("a = = b", "TOML")]:
        file.write_text(text)
        done = eyot("serve", "--config", str(file), "--data-dir", str(tmp_path / "data"), timeout=20)
        assert done.returncode != 0 and says in done.stderr, done.stderr


def test_a_second_server_on_the_same_data_directory_is_refused(shared_server):
    done = eyot("serve", "--listen", "127.0.0.1:0", "--data-dir", str(shared_server.data_dir), timeout=20)
    assert done.returncode != 0 and str(shared_server.process.pid) in done.stderr, done.stderr


def test_an_address_in_use_is_named(shared_server, tmp_path):
    address = shared_server.url.removeprefix("http://")
    done = eyot("serve", "--listen", address, "--data-dir", str(tmp_path / "data"), timeout=20)
    assert done.returncode != 0 and address in done.stderr, done.stderr


def test_secrets_are_for_the_owner_only(shared_server):
    secret = shared_server.env()["AWS_SECRET_ACCESS_KEY"].encode()
    assert (shared_server.data_dir / "master.key").stat().st_mode & 0o077 == 0
    for file in shared_server.data_dir.rglob("*"):
        if file.is_file() and "sandboxes" not in file.parts and "packages" not in file.parts:
            assert secret not in file.read_bytes(), f"{file} holds the secret key in the clear"
    assert secret not in Path(shared_server.stderr.name).read_bytes()


def test_health_and_metrics(shared_server):
    import urllib.request
    for path in ("healthz", "readyz"):
        assert urllib.request.urlopen(f"{shared_server.url}/_eyot/{path}", timeout=10).status == 200
    text = urllib.request.urlopen(f"{shared_server.url}/_eyot/metrics", timeout=10).read().decode()
    assert "eyot_" in text and text.rstrip().endswith("# EOF")


def test_the_process_driver_says_that_it_does_not_isolate(make_server, tmp_path):
    server = make_server(driver="process").start()
    assert "isolat" in server.stderr_text().lower()
    arn = deploy_files(server, tmp_path, "sdk", {"main.py": (EXAMPLES / "python-agent/main.py").read_text(),
                                                 "requirements.txt": "bedrock-agentcore==1.25.0\n"})
    one, two = session_id(), session_id()
    invoke(server.data, arn, {"prompt": "remember a"}, one)
    invoke(server.data, arn, {"prompt": "remember b"}, two)
    assert invoke(server.data, arn, {"prompt": "recall"}, one)[0]["disk"] == ["a"]
    assert server.stop() == 0
    assert sandbox_leftovers(server.data_dir) == []


def test_the_aws_command_line_works_with_the_same_variables(shared_server, tmp_path):
    arn = deploy_files(shared_server, tmp_path, "by_aws_cli", {"main.py": PLAIN})
    aws = Path(sys.executable).parent / "aws"
    env = {**CLEAN_ENV, **shared_server.env(), "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}

    def run(*args):
        done = subprocess.run([aws, *args, "--output", "json"], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    got = run("bedrock-agentcore-control", "get-agent-runtime", "--agent-runtime-id", arn.rsplit("/", 1)[1])
    assert (got["agentRuntimeArn"], got["status"]) == (arn, "READY")
    (tmp_path / "ask.json").write_text('{"act": "hello"}')
    answer = tmp_path / "answer.json"
    payload = f"fileb://{tmp_path / 'ask.json'}"
    run("bedrock-agentcore", "invoke-agent-runtime", "--agent-runtime-arn", arn, "--payload", payload, str(answer))
    assert json.loads(answer.read_text())["turn"] == 1


def test_a_server_of_another_region_and_account(make_server, tmp_path):
    server = make_server(env={"EYOT__REGION": "eu-central-1", "EYOT__ACCOUNT": "210987654321"}).start()
    arn = deploy_files(server, tmp_path, "elsewhere", {"main.py": PLAIN})
    assert arn.startswith("arn:aws:bedrock-agentcore:eu-central-1:210987654321:runtime/elsewhere-")
    assert server.env()["AWS_REGION"] == "eu-central-1"
    assert invoke(server.data, arn, {"act": "env"})[0]["AWS_REGION"] == "eu-central-1"


def test_a_signal_right_after_the_ready_line_drains(make_server):
    server = make_server().start()
    assert server.stop() == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []
