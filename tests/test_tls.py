"""TLS with an operator's own certificate, and HTTP/2 with and without it."""

import asyncio
import datetime
import ipaddress
import json
import ssl
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import boto3
import botocore.exceptions
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from conftest import EYOT, PYTHON, Server, deploy_files, invoke, sandbox_leftovers, session_id
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()


def certificate(subject, issuer=None):
    """A certificate and its key; without an issuer an authority's own, else a server's on 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer_cert, issuer_key = issuer or (None, key)
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_cert.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if issuer is None:
        signing = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
        usage = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **signing)
        builder = builder.add_extension(usage, critical=True)
    else:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()), key


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Paths of PEM files: ca, cert, key (of that certificate), other_key (of none)."""
    directory = tmp_path_factory.mktemp("pki")
    ca = certificate("Eyot test authority")
    cert, key = certificate("eyot", issuer=ca)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = {
        "ca": ca[0].public_bytes(serialization.Encoding.PEM),
        "cert": cert.public_bytes(serialization.Encoding.PEM) + ca[0].public_bytes(serialization.Encoding.PEM),
        "key": key.private_bytes(*form),
        "other_key": ec.generate_private_key(ec.SECP256R1()).private_bytes(*form),
    }
    for name, content in files.items():
        (directory / f"{name}.pem").write_bytes(content)
    return {name: str(directory / f"{name}.pem") for name in files}


@pytest.fixture(scope="module")
def secure(tmp_path_factory, pki):
    """A server with TLS and an agent on it, deployed over TLS; answers (server, ARN)."""
    directory = tmp_path_factory.mktemp("tls")
    server = Server(directory / "data", args=["--tls-cert", pki["cert"], "--tls-key", pki["key"]]).start()
    source = directory / "agent"
    source.mkdir()
    (source / "main.py").write_text(PLAIN)
    server.cli("deploy", str(source), "--name", "secure", "--runtime", PYTHON, env={"AWS_CA_BUNDLE": pki["ca"]})
    arn = client(server, pki["ca"], "bedrock-agentcore-control").list_agent_runtimes()["agentRuntimes"][0]["agentRuntimeArn"]
    yield server, arn
    assert server.stop() == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


@pytest.fixture(scope="module")
def clear(shared_server, tmp_path_factory):
    """The shared server, which speaks without TLS, and an agent on it."""
    return shared_server, deploy_files(shared_server, tmp_path_factory.mktemp("h2c"), "http2", {"main.py": PLAIN})


def client(server, verify, service="bedrock-agentcore"):
    env = server.env()
    return boto3.client(
        service, endpoint_url=env["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"], region_name=env["AWS_REGION"], verify=verify,
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_boto3_over_tls(secure, pki):
    server, arn = secure
    assert server.url.startswith("https://127.0.0.1:")
    data, session = client(server, pki["ca"]), session_id()
    assert [invoke(data, arn, {}, session)[0]["turn"] for _ in range(3)] == [1, 2, 3]
    reply = data.invoke_agent_runtime(agentRuntimeArn=arn, payload=b'{"act": "drip", "count": 4, "pause": 0.2}')
    arrivals = [time.monotonic() for line in reply["response"].iter_lines(chunk_size=1) if line.startswith(b"data:")]
    assert len(arrivals) == 4 and arrivals[-1] - arrivals[0] > 0.4


def test_a_client_without_our_authority_refuses_the_server(secure):
    server, arn = secure
    with pytest.raises(botocore.exceptions.SSLError):
        invoke(client(server, True), arn, {})


def test_no_plain_text_on_the_tls_port(secure):
    server, _ = secure
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url.replace("https://", "http://") + "/_eyot/healthz", timeout=20)


def test_env_and_client_commands(secure, pki):
    server, _ = secure
    env = server.env()
    assert env["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"] == env["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"] == server.url
    done = server.cli("invoke", "secure", "{}", env={"AWS_CA_BUNDLE": pki["ca"]})
    assert json.loads(done.stdout)["turn"] == 1
    done = server.cli("invoke", "secure", "{}", check=False)
    assert done.returncode != 0 and "certificate" in done.stderr.lower(), done.stderr


@pytest.mark.parametrize(
    "cert, key, says",
    [
        ("{cert}", "{other_key}", ["cert.pem", "other_key.pem", "cannot be used together"]),
        ("{cert}", "/no/such/key.pem", ["private key", "/no/such/key.pem"]),
        ("/no/such/cert.pem", "{key}", ["certificate", "/no/such/cert.pem"]),
        ("{key}", "{key}", ["key.pem", "holds no certificate"]),
        ("{cert}", "{cert}", ["private key", "cert.pem"]),
        ("{cert}", None, ["--tls-key"]),
        (None, "{key}", ["--tls-cert"]),
    ],
)
def test_wrong_files_are_named(pki, tmp_path, cert, key, says):
    flags = [part for flag, file in (("--tls-cert", cert), ("--tls-key", key)) if file for part in (flag, file.format(**pki))]
    done = subprocess.run(
        [EYOT, "serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), *flags],
        capture_output=True, text=True, timeout=30,
    )
    assert done.returncode != 0 and done.stdout == ""
    for part in says:
        assert part in done.stderr, done.stderr


# HTTP/2. httpx tells which version a connection has agreed on; with `http1=False` it begins with HTTP/2's preface.


@pytest.fixture(params=["tls", "clear"])
def over(request, pki):
    """(server, ARN, a function that makes an httpx client) for TLS with ALPN or clear text with prior knowledge."""
    server, arn = request.getfixturevalue("secure" if request.param == "tls" else "clear")

    def connect(**options):
        settings = {"verify": ssl.create_default_context(cafile=pki["ca"])} if request.param == "tls" else {}
        # With TLS both versions are offered, so that it is the server that chooses.
        return httpx.AsyncClient(http2=True, http1=request.param == "tls", timeout=60, **settings, **options)

    return server, arn, connect


def signed(server, arn, payload, session):
    """URL, headers and body of an invocation, signed by botocore."""
    env = server.env()
    body = json.dumps(payload).encode()
    url = f"{server.url}/runtimes/{quote(arn, safe='')}/invocations"
    headers = {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": session, "Content-Type": "application/json"}
    request = AWSRequest("POST", url, data=body, headers=headers)
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "bedrock-agentcore", env["AWS_REGION"]).add_auth(request)
    return {"url": url, "headers": dict(request.headers), "content": body}


def test_an_invocation_over_http2(over):
    server, arn, connect = over

    async def run():
        async with connect() as http:
            session = session_id()
            for turn in (1, 2):
                reply = await http.post(**signed(server, arn, {}, session))
                assert (reply.http_version, reply.status_code) == ("HTTP/2", 200), reply.text
                assert reply.json()["turn"] == turn
                assert reply.headers["x-amzn-bedrock-agentcore-runtime-session-id"] == session
            forged = signed(server, arn, {}, session)
            refused = await http.post(**{**forged, "content": forged["content"] + b" "})
            assert (refused.http_version, refused.status_code) == ("HTTP/2", 403)
            assert refused.headers["x-amzn-errortype"] == "AccessDeniedException"
            # A refused stream leaves its connection and its session in use.
            assert (await http.post(**signed(server, arn, {}, session))).json()["turn"] == 3

    asyncio.run(run())


def test_a_stream_over_http2_arrives_event_by_event(over):
    server, arn, connect = over

    async def run():
        async with connect() as http:
            arrivals = []
            async with http.stream("POST", **signed(server, arn, {"act": "drip", "count": 5, "pause": 0.3}, session_id())) as reply:
                assert reply.http_version == "HTTP/2" and reply.headers["content-type"] == "text/event-stream"
                async for line in reply.aiter_lines():
                    if line:
                        arrivals.append((time.monotonic(), line))
            assert [line for _, line in arrivals] == [f'data: {{"n": {n}}}' for n in range(5)]
            pauses = [after - before for (before, _), (after, _) in zip(arrivals, arrivals[1:])]
            assert min(pauses) > 0.1, pauses

    asyncio.run(run())


def test_ten_streams_at_once_on_one_connection(over):
    server, arn, connect = over

    async def run():
        async with connect(limits=httpx.Limits(max_connections=1)) as http:
            session = session_id()
            opened = await http.post(**signed(server, arn, {}, session))
            stream = opened.extensions["network_stream"]
            local = stream.get_extra_info("client_addr")
            started = time.monotonic()
            asks = [signed(server, arn, {"act": "sleep", "seconds": 1 + n / 100}, session) for n in range(10)]
            replies = await asyncio.gather(*(http.post(**ask) for ask in asks))
            took = time.monotonic() - started
            assert [reply.json() for reply in replies] == [{"slept": 1 + n / 100} for n in range(10)]
            assert {reply.extensions["network_stream"].get_extra_info("client_addr") for reply in replies} == {local}
            assert len({reply.extensions["stream_id"] for reply in replies}) == 10
            # One after the other they would take 10 s.
            assert took < 5

    asyncio.run(run())


def test_both_versions_on_one_port(clear):
    server, _ = clear
    for http2 in (True, False):
        with httpx.Client(http2=http2, http1=not http2, timeout=20) as http:
            assert http.get(f"{server.url}/_eyot/healthz").http_version == ("HTTP/2" if http2 else "HTTP/1.1")
