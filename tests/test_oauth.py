"""OAuth as a backend meets it: plain `requests` with tokens of a real OpenID provider, and what is refused."""

import http.client
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import pytest
import requests
from conftest import Server, deploy_files, invoke, sandbox_leftovers, session_id, wait_endpoint, wait_ready
from oidc import AGENTS, OTHER, Provider, base64url, claims, header, oauth_environment, protect, signing_key

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
MISMATCH = "Authorization method mismatch."
REFRESH_SECONDS = 2


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A server with a runtime for signed requests and one for bearers, and the provider of its tokens."""
    directory = tmp_path_factory.mktemp("oauth")
    provider = Provider()
    server = Server(directory / "data", env=oauth_environment(refresh_interval=f"{REFRESH_SECONDS}s"))
    try:
        provider.start()
        server.start()
        signed_arn = deploy_files(server, directory, "signed_plain", {"main.py": PLAIN})
        arn = protect(server, signed_arn, "bearer_plain", provider, allowedAudience=[AGENTS])
        yield SimpleNamespace(provider=provider, server=server, arn=arn, signed_arn=signed_arn)
    finally:
        code = server.stop()
        provider.stop()
    assert code == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


def call(stage, token, payload=None, session=None, arn=None, **kwargs):
    """The pattern that AWS documents for OAuth runtimes, which the SDKs cannot call."""
    headers = {"Content-Type": "application/json", SESSION: session or session_id()}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    url = f"{stage.server.url}/runtimes/{quote(arn or stage.arn, safe='')}/invocations?qualifier=DEFAULT"
    return requests.post(url, headers=headers, data=json.dumps(payload or {"act": "hello"}), timeout=60, **kwargs)


def refused(reply, status, reason):
    """That a call was refused in the model's form, for this reason."""
    assert reply.status_code == status, reply.text
    assert re.search(reason, reply.json()["message"]), reply.text
    kinds = {401: "UnauthorizedException", 403: "AccessDeniedException"}
    assert reply.headers["x-amzn-ErrorType"].split(":")[0] == kinds[status]
    return reply


@pytest.mark.parametrize("who", ["backend", "maria"])
def test_a_bearer_invokes(stage, who):
    token = stage.provider.token() if who == "backend" else stage.provider.token_of_user(who)
    assert claims(token)["sub"] == who
    session = session_id()
    for turn in (1, 2):
        reply = call(stage, token, session=session)
        assert reply.status_code == 200, reply.text
        assert reply.json()["turn"] == turn and reply.json()["session"] == session
        assert reply.headers[SESSION] == session
    counted = requests.get(f"{stage.server.url}/_eyot/metrics", timeout=10).text
    assert 'eyot_oauth_tokens_total{outcome="verified"}' in counted and 'eyot_oauth_provider_fetches_total{outcome="good"}' in counted


def test_a_bearer_reads_a_stream_and_stops_its_session(stage):
    token, session = stage.provider.token(), session_id()
    reply = call(stage, token, {"act": "drip", "count": 8, "pause": 0.1}, session, stream=True)
    arrivals = [(time.monotonic(), line) for line in reply.iter_lines(chunk_size=1) if line]
    assert [line for _, line in arrivals] == [b'data: {"n": %d}' % n for n in range(8)]
    assert arrivals[-1][0] - arrivals[0][0] > 0.4, "it came all at once"
    stop = f"{stage.server.url}/runtimes/{quote(stage.arn, safe='')}/stopruntimesession?qualifier=DEFAULT"
    stop = requests.post(stop, headers={"Authorization": f"Bearer {token}", SESSION: session}, timeout=60)
    assert stop.status_code == 200, stop.text
    assert call(stage, token, session=session).json()["turn"] == 1, "the session went on"


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer "])
def test_without_a_token_the_answer_says_where_to_get_one(stage, header):
    """RFC 9728, as a client walks it: from the refusal to a token, knowing nothing before."""
    url = f"{stage.server.url}/runtimes/{quote(stage.arn, safe='')}/invocations"
    reply = requests.post(f"{url}?qualifier=DEFAULT", headers={"Authorization": header} if header else {}, timeout=20)
    assert reply.status_code == 401, reply.text
    challenge = re.fullmatch(r'Bearer resource_metadata="([^"]+)"', reply.headers["WWW-Authenticate"])
    assert challenge, reply.headers
    assert challenge.group(1) == f"{url}/.well-known/oauth-protected-resource?qualifier=DEFAULT"
    metadata = requests.get(challenge.group(1), timeout=20)
    assert metadata.status_code == 200, metadata.text
    assert metadata.json()["authorization_servers"] == [stage.provider.issuer]
    assert metadata.json()["resource"].startswith(url)
    found = requests.get(f"{metadata.json()['authorization_servers'][0]}/.well-known/openid-configuration", timeout=20)
    assert found.json()["token_endpoint"] == f"{stage.provider.issuer}/token"


def test_tokens_are_refused_with_the_reason(stage):
    good = stage.provider.token()
    head, payload, signature = good.split(".")
    forged = base64url(json.dumps(claims(good) | {"sub": "root"}).encode())
    unsigned = base64url(json.dumps({"alg": "none", "typ": "at+jwt"}).encode())
    for token, reason in [
        ("garbage", "Failed to parse token: "),
        (f"{head}.{payload}", "Failed to parse token: "),
        (f"{head}.{forged}.{signature}", "Invalid signature."),
        (f"{head}.{payload}.{base64url(bytes(256))}", "Invalid signature."),
        (f"{unsigned}.{payload}.", "The token's 'alg' is not accepted."),
        (stage.provider.token(OTHER), "Claim 'aud' value mismatch with configuration."),
    ]:
        reply = refused(call(stage, token), 401, f"^OAuth authorization failed: {reason}")
        assert token not in reply.text
    assert call(stage, good).status_code == 200
    log = stage.server.stderr_text()
    assert signature not in log and payload not in log


def test_rules_of_client_and_scope(stage):
    """Rules are ANDed; each refusal names the claim."""
    rules = {"allowedClients": ["backend"], "allowedScopes": ["invoke"]}
    arn = protect(stage.server, stage.signed_arn, "strict_plain", stage.provider, **rules)
    assert call(stage, stage.provider.token(OTHER), arn=arn).status_code == 200, "no audience was asked for"
    refused(call(stage, stage.provider.token_of_user("maria"), arn=arn), 401, "Claim 'client_id' value mismatch")
    challenge = call(stage, None, arn=arn).headers["WWW-Authenticate"]
    assert challenge.endswith(', scope="invoke"'), "a client is not told which scope to ask for"


def test_a_token_that_ended_is_refused(stage):
    stage.provider.restart(seconds=-2 * 3600)  # signed with the right key, two hours ago, for one hour
    try:
        ended = stage.provider.token()
    finally:
        stage.provider.restart()
    assert claims(ended)["exp"] < time.time()
    refused(call(stage, ended), 401, "Token has expired.")


def test_the_other_method_is_refused(stage):
    data, token = stage.server.data, stage.provider.token()
    with pytest.raises(data.exceptions.AccessDeniedException, match=MISMATCH) as error:
        invoke(data, stage.arn, {"act": "hello"})
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    with pytest.raises(data.exceptions.AccessDeniedException, match=MISMATCH):
        data.stop_runtime_session(agentRuntimeArn=stage.arn, runtimeSessionId=session_id())
    refused(call(stage, token, arn=stage.signed_arn), 403, MISMATCH)
    refused(call(stage, "garbage", arn=stage.signed_arn), 403, MISMATCH)
    assert invoke(data, stage.signed_arn, {"act": "hello"})[0]["turn"] == 1


def test_a_version_changes_the_method(stage, tmp_path):
    """The method is a version's: an update without an authorizer goes back to signatures, as at AWS."""
    control, data, token = stage.server.control, stage.server.data, stage.provider.token()
    arn = protect(stage.server, stage.signed_arn, "changing_plain", stage.provider, allowedAudience=[AGENTS])
    runtime = control.get_agent_runtime(agentRuntimeId=arn.rsplit("/", 1)[1])
    assert runtime["authorizerConfiguration"]["customJWTAuthorizer"] == {
        "discoveryUrl": stage.provider.discovery, "allowedAudience": [AGENTS],
    }
    assert call(stage, token, arn=arn).status_code == 200
    kept = {name: runtime[name] for name in ("agentRuntimeId", "agentRuntimeArtifact", "roleArn", "networkConfiguration")}
    control.update_agent_runtime(**kept)
    assert "authorizerConfiguration" not in wait_ready(control, runtime["agentRuntimeId"])
    refused(call(stage, token, arn=arn), 403, MISMATCH)
    assert invoke(data, arn, {"act": "hello"})[0]["turn"] == 1


@pytest.fixture
def moody(stage):
    """A provider that a test may stop and change, with a runtime of its own; answers (provider, a function that calls)."""
    provider = Provider().start()
    try:
        name = f"moody_{provider.issuer.rsplit(':')[-1]}"
        arn = protect(stage.server, stage.signed_arn, name, provider, allowedAudience=[AGENTS])
        yield provider, lambda token: call(stage, token, arn=arn)
    finally:
        provider.stop()


def until(status, attempt, seconds=15):
    """Repeats a call until it has this status: the server asks a provider again after a pause only."""
    deadline = time.monotonic() + seconds
    while (reply := attempt()).status_code != status and time.monotonic() < deadline:
        time.sleep(0.2)
    assert reply.status_code == status, reply.text


def test_keys_are_rotated(moody):
    """A new key, of another algorithm, is found when the first token comes that it signed; the old one goes on."""
    provider, ask = moody
    seen, unseen = provider.token(), provider.token()
    assert ask(seen).status_code == 200
    [old] = provider.keys
    provider.keys = [signing_key("second", "ES256"), old]
    provider.restart()
    after = provider.token()
    assert header(after) == {"alg": "ES256", "typ": "at+jwt", "kid": "second"}
    until(200, lambda: ask(after))
    assert ask(seen).status_code == 200
    assert ask(unseen).status_code == 200


def test_a_provider_that_is_down(stage, moody):
    """Keys that are known go on, also when they should be fetched again; nothing else gets in."""
    provider, ask = moody
    seen, unseen, elsewhere = provider.token(), provider.token(), provider.token(OTHER)
    assert ask(seen).status_code == 200
    provider.keys = [signing_key("second")]
    provider.restart()
    of_new_key = provider.token()
    provider.stop()
    time.sleep(REFRESH_SECONDS + 0.2)
    assert ask(unseen).status_code == 200, "the keys that were known are not used"
    assert ask(seen).status_code == 200
    refused(ask(elsewhere), 401, "Claim 'aud' value mismatch")
    refused(ask(of_new_key), 401, "no key that the token could be signed with")
    assert "keys cannot be fetched" in stage.server.stderr_text()
    provider.start()
    until(200, lambda: ask(of_new_key))


def test_a_provider_that_was_never_reached(moody):
    provider, ask = moody
    token = provider.token()
    provider.stop()
    refused(ask(token), 401, "keys are not available now")
    provider.start()
    until(200, lambda: ask(token))


def send_as_is(url, query, token):
    """By a client that leaves the query as it is; `requests` decodes what need not be encoded."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    headers = {"Authorization": f"Bearer {token}", SESSION: session_id()}
    connection.request("POST", f"{urlsplit(url).path}?{query}", b"{}", headers)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


@pytest.mark.parametrize("strict, status, reason", [
    ({"allowedClients": ["backend"]}, 401, "Claim 'client_id' value mismatch"),
    (None, 403, MISMATCH),
])
def test_an_endpoint_has_its_own_rules(stage, strict, status, reason):
    """Those of its version, in whatever way a caller writes which endpoint is meant."""
    control, token = stage.server.control, stage.provider.token_of_user("maria")
    name = "strict_default" if strict else "signed_default"
    arn = protect(stage.server, stage.signed_arn, name, stage.provider, allowedAudience=[AGENTS])
    runtime = control.get_agent_runtime(agentRuntimeId=arn.rsplit("/", 1)[1])
    named = {"agentRuntimeId": runtime["agentRuntimeId"]}
    control.create_agent_runtime_endpoint(**named, name="open", agentRuntimeVersion="1")
    wait_endpoint(control, named["agentRuntimeId"], "open", "1")
    kept = {part: runtime[part] for part in ("agentRuntimeArtifact", "roleArn", "networkConfiguration")}
    if strict:
        kept["authorizerConfiguration"] = {"customJWTAuthorizer": {"discoveryUrl": stage.provider.discovery, **strict}}
    control.update_agent_runtime(**named, **kept)
    wait_endpoint(control, named["agentRuntimeId"], "DEFAULT", "2")
    url = f"{stage.server.url}/runtimes/{quote(arn, safe='')}/invocations"
    for query in (
        "", "qualifier=DEFAULT", "qu%61lifier=DEFAULT", "qu%61lifier=DEFAULT&qualifier=open", "qualifier=DEFAULT&qualifier=open",
        "%71ualifier=DEFAULT&qualifier=open", "qualifier=D%45FAULT&qu%61lifier=open", "Qualifier=open", "qualifier&qualifier=open",
    ):
        got, text = send_as_is(url, query, token)
        if query == "qualifier&qualifier=open":  # an empty name is no endpoint's
            assert got in (400, 401, 403, 404), (query, text)
        else:
            assert got == status and reason in text, f"{query!r} was let in: {got} {text}"
    for query in ("qualifier=open", "qu%61lifier=open", "qualifier=%6fpen", "a=b&qualifier=open", "qualifier=open&qualifier=DEFAULT"):
        assert send_as_is(url, query, token)[0] == 200, query
