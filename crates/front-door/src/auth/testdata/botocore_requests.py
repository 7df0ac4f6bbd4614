"""Writes botocore.json: requests signed by botocore's own signer at a fixed time.

    pip install boto3==1.44.5 bedrock-agentcore==1.25.0
    python botocore_requests.py > botocore.json

Nothing is sent. The requests of boto3 are those that the client is about to write to its socket, with the Host header
that its HTTP library adds; session ids are given, so that only amz-sdk-invocation-id changes from run to run.
"""

import base64
import datetime
import json
import os
from importlib.metadata import version
from urllib.parse import urlsplit

# Read when the SDK is imported. Its WebSocket helper takes any name below api.aws.
os.environ["BEDROCK_AGENTCORE_DP_ENDPOINT"] = "https://local.api.aws:8443"

import boto3
import botocore
import botocore.auth
from bedrock_agentcore.runtime import AgentCoreRuntimeClient
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

NOW = datetime.datetime(2026, 11, 22, 10, 0, 0, tzinfo=datetime.timezone.utc)
botocore.auth.get_current_datetime = lambda *_, **__: NOW

KEY = {"id": "AKIAIOSFODNN7EXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
TOKEN = "FwoGZXIvYXdzEXAMPLE//////////wEaDEXAMPLE+token=="
REGION = "us-west-2"
ARN = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-AbCdEf1234"
SESSION = "1f2e3d4c-0000-4000-8000-00000000cafe-suffix"
cases = []


def add(name, method, url, headers, body=b"", token=None):
    split = urlsplit(url)
    # The user agent describes the machine and is never signed.
    headers = [[n, v.decode("latin-1") if isinstance(v, bytes) else v] for n, v in headers if n != "User-Agent"]
    if not any(n.lower() == "host" for n, _ in headers):
        headers.append(["Host", split.netloc])
    target = split.path + ("?" + split.query if split.query else "")
    body = base64.b64encode(body or b"").decode()
    cases.append({"name": name, "method": method, "target": target, "headers": headers, "token": token, "body": body})


def client(service, endpoint, token=None):
    made = boto3.client(
        service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id=KEY["id"],
        aws_secret_access_key=KEY["secret"], aws_session_token=token, config=Config(retries={"total_max_attempts": 1}),
    )
    sent = []

    def capture(request, **_):
        sent.append(request)
        return AWSResponse(request.url, 418, {}, None)

    made.meta.events.register("before-send.*", capture)

    def call(name, operation, **arguments):
        sent.clear()
        try:
            getattr(made, operation)(**arguments)
        except Exception:  # There is no answer to parse.
            pass
        (request,) = sent
        add(name, request.method, request.url, request.headers.items(), request.body or b"", token)

    return call


def sign(name, method, url, headers=(), body=b""):
    request = AWSRequest(method=method, url=url, data=body)
    for header, value in headers:
        request.headers.add_header(header, value)
    botocore.auth.SigV4Auth(Credentials(KEY["id"], KEY["secret"]), "bedrock-agentcore", REGION).add_auth(request)
    add(name, method, url, request.headers.items(), body)


data = client("bedrock-agentcore", "http://127.0.0.1:8780")
data("invoke by ARN", "invoke_agent_runtime", agentRuntimeArn=ARN, qualifier="DEFAULT", runtimeSessionId=SESSION,
     payload=b'{"prompt":"hi"}')
data("invoke by id", "invoke_agent_runtime", agentRuntimeArn="my_agent-AbCdEf1234", accountId="123456789012",
     runtimeSessionId=SESSION, payload="grüße ☃".encode(), contentType="text/plain", accept="text/event-stream",
     runtimeUserId="someone  with   spaces", traceId="Root=1-5759e988-bd862e3fe1be46a994272793")
data("stop a session", "stop_runtime_session", agentRuntimeArn=ARN, runtimeSessionId=SESSION)
client("bedrock-agentcore", "http://[::1]:8780", TOKEN)(
    "invoke with a session token over IPv6", "invoke_agent_runtime", agentRuntimeArn=ARN, runtimeSessionId=SESSION,
    payload=b"")
client("bedrock-agentcore", "https://agents.example.org")(
    "invoke over TLS on the default port", "invoke_agent_runtime", agentRuntimeArn=ARN, runtimeSessionId=SESSION,
    payload=bytes(range(256)))

control = client("bedrock-agentcore-control", "http://localhost:8780")
control("create a runtime", "create_agent_runtime", agentRuntimeName="my_agent",
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": "example.org/agent:1"}},
        roleArn="arn:aws:iam::123456789012:role/agent", networkConfiguration={"networkMode": "PUBLIC"})
control("list runtimes from a token", "list_agent_runtimes", maxResults=7, nextToken="a+b/c== &é")
control("get an endpoint", "get_agent_runtime_endpoint", agentRuntimeId="my_agent-AbCdEf1234", endpointName="DEFAULT")
control("untag", "untag_resource", resourceArn=ARN, tagKeys=["team", "a b", "Team", "ä"])

base = "http://127.0.0.1:8780"
sign("only a Date header", "GET", base + "/runtimes/", [("Date", "set by the signer")])
sign("a signed payload hash", "POST", base + "/x", [
    ("X-Amz-Content-SHA256", "6ae8a75555209fd6c44157c0aed8016e763ff435a19cf186f76863140143ff72")], b"test content")
sign("one header, several values", "GET", base + "/x", [("X-Multi", "b"), ("X-Multi", " a  a "), ("X-Multi", "")])
sign("blanks in a header", "GET", base + "/x", [("X-Blanks", "one \t two\tthree   four")])
sign("a path to normalise", "GET", base + "/a//b/./c/../d/.")
sign("odd characters in path and query", "GET", base + "/a:b@c!$'()*,;=%2F%25/~?z=1&a=b+c&a=%3a&b=/:&A&c=d=e")

helper = AgentCoreRuntimeClient(region=REGION, session=boto3.Session(KEY["id"], KEY["secret"], region_name=REGION))
url, headers = helper.generate_ws_connection(ARN, session_id=SESSION, endpoint_name="DEFAULT")
add("the SDK's WebSocket helper", "GET", url, headers.items())
add("the SDK's presigned WebSocket", "GET", helper.generate_presigned_url(ARN, session_id=SESSION), [])

made_by = f"boto3 {boto3.__version__}, botocore {botocore.__version__}, bedrock-agentcore {version('bedrock-agentcore')}"
head = {"made_by": made_by, "now": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"), "key": KEY, "region": REGION}
lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
print(json.dumps(head)[:-1] + ', "cases": [\n' + lines + "\n]}")
