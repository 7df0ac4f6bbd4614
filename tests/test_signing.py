"""Signed requests as other clients than boto3's calls make them: presigned URLs, curl, the AWS CLI, odd Host headers."""

import hashlib
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import botocore.auth
import pycurl
import pytest
import requests
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from callers import ACCOUNT, Iam, allow, client, data_of, temporary, trust
from conftest import Server, deploy_files, invoke, sandbox_leftovers, session_id

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
SCOPE = ("bedrock-agentcore", "us-west-2")
CLEAN_ENV = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "EYOT__"))}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A server with a runtime, a user who may invoke it, and temporary credentials of a role that may as well."""
    directory = tmp_path_factory.mktemp("signing")
    server = Server(directory / "data", driver="process").start()
    try:
        arn = deploy_files(server, directory, "signed", {"main.py": PLAIN})
        iam = Iam(server)
        user = iam.user("invoker", allow(["bedrock-agentcore:*", "sts:AssumeRole"]))
        role = iam.role("invoker", trust({"AWS": ACCOUNT}), allow("bedrock-agentcore:*"))
        given = temporary(client(server, "sts", user).assume_role(RoleArn=role, RoleSessionName="signing"))
        yield SimpleNamespace(server=server, iam=iam, arn=arn, user=user, role=role, given=given)
    finally:
        ended = server.stop()
    assert ended == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


def refused(reply, words, status=403):
    assert reply.status_code == status and re.search(words, reply.json()["message"]), (reply.status_code, reply.text)
    assert reply.headers["x-amzn-ErrorType"].startswith("AccessDeniedException"), reply.headers
    return reply.json()["message"]


def presigned(stage, key, seconds=60, **parameters):
    """A URL by botocore's own presigner and the session that it is for, without which it does not open."""
    session = session_id()
    url = data_of(stage.server, key).generate_presigned_url(
        "invoke_agent_runtime", ExpiresIn=seconds,
        Params={"agentRuntimeArn": stage.arn, "runtimeSessionId": session, "payload": b"", **parameters},
    )
    return url, session


def open_url(url, session, **kwargs):
    """Without credentials of its own."""
    return requests.post(url, headers={SESSION: session} if session else {}, timeout=60, **kwargs)


@pytest.mark.parametrize("whose", ["user", "given"])
def test_a_presigned_url_opens_without_credentials(stage, whose):
    url, session = presigned(stage, getattr(stage, whose), qualifier="DEFAULT")
    assert ("X-Amz-Security-Token=" in url) == (whose == "given")
    for turn in (1, 2, 3):  # again and again, as at AWS
        reply = open_url(url, session)
        assert reply.status_code == 200 and reply.json()["turn"] == turn, reply.text
    if whose == "given":
        refused(open_url(re.sub(r"&X-Amz-Security-Token=[^&]*", "", url), session), "security token included in the request is invalid")
        refused(open_url(url.replace("X-Amz-Security-Token=", "X-Amz-Security-Token=A"), session), "security token included in the request is invalid")


def test_a_presigned_url_is_for_one_thing(stage):
    """Whatever is changed is noticed; who may do what is decided when it is opened."""
    url, session = presigned(stage, stage.user, seconds=100)
    mismatch = "request signature we calculated does not match"
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Expires"] == ["100"]
    for changed in (
        url.replace("X-Amz-Expires=100", "X-Amz-Expires=300"),
        url.replace("/invocations?", "/invocations?qualifier=other&"),
        url.replace(query["X-Amz-Date"][0], (datetime.now(timezone.utc) + timedelta(seconds=5)).strftime("%Y%m%dT%H%M%SZ")),
        re.sub("X-Amz-Signature=.", lambda found: f"X-Amz-Signature={'1' if found.group()[-1] == '0' else '0'}", url),
    ):
        assert changed != url
        refused(open_url(changed, session), mismatch)
    refused(open_url(url, session_id()), mismatch)
    refused(open_url(url, None), f"SignedHeaders names '{SESSION.lower()}', which the request does not have")
    refused(open_url(url, session, data=b'{"act": "hello"}'), mismatch)
    refused(requests.get(url.replace("/invocations", ""), headers={SESSION: session}, timeout=60), mismatch, 403)
    both = requests.post(url, headers={SESSION: session, "Authorization": "AWS4-HMAC-SHA256 x"}, timeout=60)
    refused(both, "more than one Authorization header, or one beside a presigned query")
    assert open_url(url, session).json()["turn"] == 1, "one of the others got through"

    key = stage.iam.user("fired", allow("bedrock-agentcore:Invoke*"))
    url, session = presigned(stage, key)
    assert open_url(url, session).status_code == 200
    stage.iam.ok("DELETE", "users/fired/policies/test")
    refused(open_url(url, session), "user/fired is not authorized to perform: bedrock-agentcore:InvokeAgentRuntime on")
    stage.iam.ok("DELETE", "users/fired")
    refused(open_url(url, session), "security token included in the request is invalid")


def test_a_presigned_url_ends(stage):
    short, session = presigned(stage, stage.user, seconds=2)
    longest, _ = presigned(stage, stage.user, seconds=300)
    assert open_url(short, session).status_code == 200
    for seconds in (301, 3600):
        url, other = presigned(stage, stage.user, seconds=seconds)
        assert f"{seconds}" in refused(open_url(url, other), "between 1 and 300 seconds")
    time.sleep(3.1)  # its time is counted in whole seconds
    assert "for 2 seconds" in refused(open_url(short, session), "Request has expired")
    # Boxed into its own time also if the clock that signed it is wrong.
    with_clock = lambda ahead: query_signed(stage, ahead)
    assert with_clock(0).status_code == 200
    assert with_clock(-200).status_code == 200
    refused(with_clock(-400), "Request has expired")
    refused(with_clock(400), "Signature not yet current")
    assert "X-Amz-Expires=300" in longest


class BodySigner(SigV4QueryAuth):
    """As the presigner of AWS's SDK for JavaScript: the signature covers the body. botocore's leaves it out."""

    def __init__(self, key, seconds=300):
        super().__init__(key, *SCOPE, expires=seconds)

    def sign(self, url, body, **headers):
        self.body = body
        request = AWSRequest("POST", url, headers=headers)
        self.add_auth(request)
        return request.url

    def payload(self, request):
        return hashlib.sha256(self.body).hexdigest()


def url_of(stage):
    return f"{stage.server.url}/runtimes/{quote(stage.arn, safe='')}/invocations"


def query_signed(stage, ahead):
    """A URL by a signer whose clock is wrong by so many seconds."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=ahead)
    real = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda remove_tzinfo=True: moment.replace(tzinfo=None) if remove_tzinfo else moment
    try:
        url = BodySigner(stage.user).sign(url_of(stage), b"")
    finally:
        botocore.auth.get_current_datetime = real
    return requests.post(url, timeout=60)


def test_a_presigned_url_with_a_body(stage):
    session, body = session_id(), json.dumps({"act": "raw", "text": "grüße"}).encode()
    url = BodySigner(stage.user).sign(url_of(stage), body, **{SESSION: session})
    reply = open_url(url, session, data=body)
    assert reply.status_code == 200 and reply.json()["raw"].encode("latin-1") == body, reply.text
    refused(open_url(url, session, data=body + b" "), "signature we calculated does not match")
    refused(open_url(url, session), "signature we calculated does not match")
    assert "X-Amz-Signature" not in str(reply.json()["headers"]) and "Security-Token" not in reply.text


def send(stage, path, body, headers, hosts):
    """Sends these Host headers and no other."""
    connection = http.client.HTTPConnection(urlsplit(stage.server.url).netloc, timeout=60)
    connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
    for name, value in [*(("Host", host) for host in hosts), *headers.items(), ("Content-Length", str(len(body)))]:
        connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    return reply.status, text.decode()


@pytest.mark.parametrize("signed_host, sent, is_good", [
    ("agents.example.com", ["agents.example.com"], True),
    ("agents.example.com", ["agents.example.com:8443"], True),  # botocore's presigner leaves the port out
    ("agents.example.com:8443", ["agents.example.com:8443"], True),
    ("agents.example.com:8443", ["agents.example.com"], False),
    ("agents.example.com", ["agents.example.com:8443", "agents.example.com"], True),  # the SDK's WebSocket helper
    ("agents.example.com", ["agents.example.com", "127.0.0.1:1"], True),
    ("agents.example.com", ["elsewhere.example.com"], False),
    ("agents.example.com", ["elsewhere.example.com", "agents.example.org"], False),
])
@pytest.mark.parametrize("form", ["header", "query"])
def test_the_host_that_is_signed(stage, form, signed_host, sent, is_good):
    body, session = b'{"act": "hello"}', session_id()
    url = f"http://{signed_host}/runtimes/{quote(stage.arn, safe='')}/invocations"
    if form == "header":
        request = AWSRequest("POST", url, data=body, headers={SESSION: session, "Host": signed_host})
        SigV4Auth(stage.given, *SCOPE).add_auth(request)
        path, headers = urlsplit(url).path, {k: v for k, v in request.headers.items() if k.lower() != "host"}
    else:
        parts = urlsplit(BodySigner(stage.given).sign(url, body, **{SESSION: session, "Host": signed_host}))
        path, headers = f"{parts.path}?{parts.query}", {SESSION: session}
    status, text = send(stage, path, body, headers, sent)
    if is_good:
        assert status == 200 and json.loads(text)["session"] == session, text
    else:
        assert status == 403 and "does not match" in text, (status, text)


def test_more_hosts_than_any_client_sends(stage):
    request = AWSRequest("POST", url_of(stage), data=b"", headers={"Host": "a"})
    SigV4Auth(stage.user, *SCOPE).add_auth(request)
    headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
    status, text = send(stage, urlsplit(request.url).path, b"", headers, ["a"] * 5)
    assert status == 403 and "more than 4 Host headers" in text, (status, text)


def curl(stage, key, path, headers=(), body=None, region="us-west-2"):
    """The program signs by itself; a session token is a header like any other."""
    program = shutil.which("curl")
    assert program, "this test needs the program curl (Debian's package of that name)"
    words = [word for header in headers for word in ("--header", header)]
    words += ["--request", "POST"] if body is None else ["--data", body]
    done = subprocess.run(
        [program, "--silent", "--show-error", "--aws-sigv4", f"aws:amz:{region}:bedrock-agentcore",
         "--user", f"{key.access_key}:{key.secret_key}", "--write-out", "\n%{http_code}", *words, f"{stage.server.url}{path}"],
        env=CLEAN_ENV, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


def libcurl(stage, key, path, headers=(), body=None, region="us-west-2"):
    """The same by the library that pycurl brings along, whatever the machine's is."""
    answer, handle = io.BytesIO(), pycurl.Curl()
    for option, value in [
        (pycurl.URL, f"{stage.server.url}{path}"), (pycurl.AWS_SIGV4, f"aws:amz:{region}:bedrock-agentcore"),
        (pycurl.USERPWD, f"{key.access_key}:{key.secret_key}"), (pycurl.HTTPHEADER, list(headers)),
        (pycurl.POST, True), (pycurl.POSTFIELDS, body or ""), (pycurl.WRITEDATA, answer), (pycurl.TIMEOUT, 60),
    ]:
        handle.setopt(option, value)
    handle.perform()
    status = handle.getinfo(pycurl.RESPONSE_CODE)
    handle.close()
    return status, json.loads(answer.getvalue())


@pytest.mark.parametrize("whose", ["user", "given"])
@pytest.mark.parametrize("send_by", [curl, libcurl])
def test_curl_signs(stage, whose, send_by):
    """Old versions (Debian's 7.88) encode no path twice and sort no query, so AWS too refuses what they sign for an ARN
    in a path: with them ids are used, and parameters in order."""
    key, session, runtime = getattr(stage, whose), session_id(), stage.arn.rsplit("/", 1)[1]
    token = [f"X-Amz-Security-Token: {key.token}"] if key.token else []
    status, listed = send_by(stage, key, "/runtimes/", token)
    assert status == 200 and [known["agentRuntimeArn"] for known in listed["agentRuntimes"]] == [stage.arn]
    paths = [f"/runtimes/{runtime}/invocations?accountId={ACCOUNT}&qualifier=DEFAULT"]
    if send_by == libcurl:
        paths += [f"/runtimes/{runtime}/invocations?qualifier=DEFAULT&accountId={ACCOUNT}"]
        paths += [f"/runtimes/{quote(stage.arn, safe='')}/invocations?qualifier=DEFAULT"]
    ask = [f"{SESSION}: {session}", "Content-Type: application/json", *token]
    for turn, path in enumerate(paths, 1):
        status, answer = send_by(stage, key, path, ask, '{"act": "hello"}')
        assert (status, answer.get("turn"), answer.get("session")) == (200, turn, session), answer
    wrong = Credentials(key.access_key, "x" * 40, key.token)
    status, answer = send_by(stage, wrong, "/runtimes/", token)
    assert status == 403 and "does not match" in answer["message"]
    status, answer = send_by(stage, key, "/runtimes/", token, region="eu-west-1")
    assert status == 403 and "us-west-2" in answer["message"]


def aws(stage, key, *words, check=True):
    """The AWS CLI, with nothing but variables."""
    env = CLEAN_ENV | {
        "AWS_ENDPOINT_URL": stage.server.url, "AWS_DEFAULT_REGION": "us-west-2", "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_MAX_ATTEMPTS": "1",
        "AWS_ACCESS_KEY_ID": key.access_key, "AWS_SECRET_ACCESS_KEY": key.secret_key,
    } | ({"AWS_SESSION_TOKEN": key.token} if key.token else {})
    program = Path(sys.executable).parent / "aws"
    done = subprocess.run([program, *words, "--output", "json"], env=env, capture_output=True, text=True, timeout=60)
    if not check:
        return done
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_aws_command_line_takes_a_role(stage):
    identity = aws(stage, stage.user, "sts", "get-caller-identity")
    assert (identity["Arn"], identity["Account"]) == (f"arn:aws:iam::{ACCOUNT}:user/invoker", ACCOUNT)
    answer = aws(stage, stage.user, "sts", "assume-role", "--role-arn", stage.role, "--role-session-name", "by-cli")
    given = temporary(answer)
    identity = aws(stage, given, "sts", "get-caller-identity")
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/invoker/by-cli"
    listed = aws(stage, given, "bedrock-agentcore-control", "list-agent-runtimes")
    assert [known["agentRuntimeArn"] for known in listed["agentRuntimes"]] == [stage.arn]
    stage.iam.ok("POST", "revocations", {"roleArn": stage.role, "sessionName": "by-cli"})
    failed = aws(stage, given, "bedrock-agentcore-control", "list-agent-runtimes", check=False)
    assert failed.returncode != 0 and "AccessDeniedException" in failed.stderr, failed.stderr


def test_a_signature_of_a_long_time_ago_and_of_the_future(stage):
    """Headers: five minutes either way."""
    invoke(data_of(stage.server, stage.user), stage.arn, {})
    for ahead, words in ((-400, "Signature expired"), (400, "Signature not yet current"), (-200, None), (200, None)):
        date = (datetime.now(timezone.utc) + timedelta(seconds=ahead)).strftime("%Y%m%dT%H%M%SZ")
        signer = SigV4Auth(stage.user, *SCOPE)
        request = AWSRequest("POST", url_of(stage), data=b"{}", headers={"X-Amz-Date": date})
        request.context["timestamp"] = date
        signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        headers = dict(request.headers) | {"Authorization": (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
            f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}, Signature={signature}"
        )}
        reply = requests.post(request.url, data=b"{}", headers=headers, timeout=60)
        if words:
            refused(reply, words)
        else:
            assert reply.status_code == 200, reply.text
