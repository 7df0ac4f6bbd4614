"""Resource policies of runtimes and endpoints: set by boto3, and what they let in from this account and from another."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import requests
from botocore.exceptions import ParamValidationError
from callers import ACCOUNT, OTHER_ACCOUNT, Iam, allow, client, code, control_of, data_of, denied, deny, policy, temporary
from conftest import Server, deploy_files, invoke, sandbox_leftovers, session_id, wait_endpoint, wait_gone
from oidc import AGENTS, Provider, oauth_environment, protect

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A server that believes one proxy's word about addresses, a runtime for signed requests and one for bearers."""
    directory = tmp_path_factory.mktemp("resource-policies")
    provider = Provider()
    env = oauth_environment() | {"EYOT__SERVER__TRUSTED_PROXIES": '["127.0.0.1/32"]'}
    server = Server(directory / "data", driver="process", env=env)
    try:
        provider.start()
        server.start()
        arn = deploy_files(server, directory, "guarded", {"main.py": PLAIN})
        bearer = protect(server, arn, "bearers", provider, allowedAudience=[AGENTS])
        iam = Iam(server)
        yield SimpleNamespace(
            server=server, iam=iam, arn=arn, id=arn.rsplit("/", 1)[1], endpoint=f"{arn}/runtime-endpoint/DEFAULT",
            control=server.control, bearer=bearer, provider=provider,
        )
    finally:
        ended = server.stop()
        provider.stop()
    assert ended == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


@pytest.fixture
def put(stage):
    """Sets policies, which are taken away after the test; answers the text that was set."""
    touched = set()

    def set_policy(arn, *statements):
        touched.add(arn)
        text = json.dumps(policy(*statements))
        assert stage.control.put_resource_policy(resourceArn=arn, policy=text)["policy"] == text
        return text

    yield set_policy
    for arn in touched:
        take(stage, arn)


def take(stage, arn):
    try:
        stage.control.delete_resource_policy(resourceArn=arn)
    except stage.control.exceptions.ResourceNotFoundException:
        pass


@pytest.fixture
def user(stage, request):
    made = []

    def make(*statements, account=ACCOUNT):
        name = f"{request.node.originalname.removeprefix('test_')[:50]}-{len(made)}"
        made.append((name, account))
        key = stage.iam.user(name, *statements, account=account)
        key.arn = f"arn:aws:iam::{account}:user/{name}"
        return key

    yield make
    for name, account in made:
        stage.iam.call("DELETE", f"users/{name}?accountId={account}")


def principal(*arns, action=INVOKE, resource="*", **more):
    return allow(action, resource, Principal={"AWS": list(arns)}, **more)


def test_a_policy_is_kept_as_it_is_written(stage):
    control = stage.control
    for arn in (stage.arn, stage.endpoint):
        assert code(control.get_resource_policy, resourceArn=arn)[:2] == ("ResourceNotFoundException", 404)
        assert code(control.delete_resource_policy, resourceArn=arn)[:2] == ("ResourceNotFoundException", 404)
        odd = '{\n "Statement" : {"Effect":"Allow", "Principal":"*",\t"Action":"%s","Resource":"%s"},"Version":"2012-10-17"}\n' % (INVOKE, arn)
        put = control.put_resource_policy(resourceArn=arn, policy=odd)
        assert put["policy"] == odd and put["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert control.get_resource_policy(resourceArn=arn)["policy"] == odd
    # One of each, and a new one takes the old one's place.
    second = json.dumps(policy(allow("bedrock-agentcore:*", stage.arn, Principal="*", Sid="Second")))
    control.put_resource_policy(resourceArn=stage.arn, policy=second)
    assert control.get_resource_policy(resourceArn=stage.arn)["policy"] == second
    assert control.get_resource_policy(resourceArn=stage.endpoint)["policy"] == odd
    control.delete_resource_policy(resourceArn=stage.endpoint)
    assert control.get_resource_policy(resourceArn=stage.arn)["policy"] == second
    control.delete_resource_policy(resourceArn=stage.arn)
    for missing in ("runtime/guarded-0000000000", f"runtime/{stage.id}/runtime-endpoint/none"):
        arn = f"arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:{missing}"
        text = json.dumps(policy(allow(INVOKE, "*", Principal="*")))
        for call, parameters in [
            (control.put_resource_policy, {"policy": text}), (control.get_resource_policy, {}), (control.delete_resource_policy, {}),
        ]:
            assert code(call, resourceArn=arn, **parameters)[:2] == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize("text, place", [
    ("", None),
    ("no json", "line 1, column"),
    ('{"Version": "2012-10-17",\n "Statement": [}', "line 2, column 16"),
    ("[]", "policy: "),
    (policy(), "Statement: "),
    (policy(allow(INVOKE, "*")), r"Statement\[0\]: .*Principal"),
    (policy(allow(INVOKE, "*", Principal="*"), {"Effect": "Permit"}), r"Statement\[1\]\.Effect: "),
    (policy(allow(INVOKE, "*", Principal="*", Ressource="*")), r"Statement\[0\]\.Ressource: "),
    (policy(allow(INVOKE, "*", Principal={"AWS": ["*", "me"]})), r"Statement\[0\]\.Principal\.AWS\[1\]: "),
    (policy(allow(INVOKE, "*", Principal="*", Condition={"StringIsh": {"aws:username": "x"}})), r"Statement\[0\]\.Condition\.StringIsh: "),
    (policy(allow(INVOKE, "*", Principal="*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}})),
     r"Statement\[0\]\.Condition\.IpAddress\.aws:SourceIp: "),
    ({"Version": "2099-01-01", "Statement": [allow(INVOKE, "*", Principal="*")]}, "Version: "),
    (policy(allow(INVOKE, f"arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/other-0000000000", Principal="*")),
     r"Statement\[0\]\.Resource: .*"),
])
def test_what_is_no_policy_is_refused_with_its_place(stage, text, place):
    text = text if isinstance(text, str) else json.dumps(text)
    if place is None:  # boto3 itself refuses it
        with pytest.raises(ParamValidationError):
            stage.control.put_resource_policy(resourceArn=stage.arn, policy=text)
        return
    name, status, message = code(stage.control.put_resource_policy, resourceArn=stage.arn, policy=text)
    assert (name, status) == ("ValidationException", 400) and re.search(place, message), message
    assert code(stage.control.get_resource_policy, resourceArn=stage.arn)[1] == 404, "it was kept all the same"


def test_a_policy_has_at_most_20480_characters(stage):
    def of_length(characters, filler):
        empty = json.dumps(policy(allow(INVOKE, "*", Principal="*")) | {"Id": ""}, ensure_ascii=False)
        return empty.replace('"Id": ""', f'"Id": "{filler * (characters - len(empty))}"')

    for filler in "xä":  # characters, not bytes
        fits = of_length(20480, filler)
        stage.control.put_resource_policy(resourceArn=stage.arn, policy=fits)
        assert stage.control.get_resource_policy(resourceArn=stage.arn)["policy"] == fits
        # botocore knows the limit and leaves it to the service.
        name, status, message = code(stage.control.put_resource_policy, resourceArn=stage.arn, policy=of_length(20481, filler))
        assert (name, status) == ("ValidationException", 400) and re.search("20,?480", message), message
        assert stage.control.get_resource_policy(resourceArn=stage.arn)["policy"] == fits
    take(stage, stage.arn)


def test_in_the_same_account_the_resource_may_let_in(stage, user, put):
    """Without an identity policy: then both the runtime and the endpoint must."""
    key, other = user(), user()
    data = data_of(stage.server, key)
    call = {"agentRuntimeArn": stage.arn, "payload": b"{}"}
    denied(data.invoke_agent_runtime, **call, words="no identity-based policy")
    put(stage.arn, principal(key.arn, resource=stage.arn))
    denied(data.invoke_agent_runtime, **call, words=f"{stage.endpoint} because no")
    put(stage.endpoint, principal(key.arn, resource=stage.endpoint))
    assert invoke(data, stage.arn, {})[0]["turn"] == 1
    denied(data_of(stage.server, other).invoke_agent_runtime, **call, words="no identity-based policy")
    denied(control_of(stage.server, key).get_agent_runtime, agentRuntimeId=stage.id, words="no identity-based policy")
    take(stage, stage.arn)
    denied(data.invoke_agent_runtime, **call, words=f"{stage.arn} because no")
    # The account as such leaves it to the account's own policies.
    for arn in (stage.arn, stage.endpoint):
        put(arn, principal(f"arn:aws:iam::{ACCOUNT}:root", resource=arn))
    denied(data.invoke_agent_runtime, **call, words="no identity-based policy")
    # One side each will do: identity for the runtime, resource for the endpoint.
    half = user(allow(INVOKE, stage.arn))
    take(stage, stage.arn)
    put(stage.endpoint, principal(half.arn, resource=stage.endpoint))
    assert invoke(data_of(stage.server, half), stage.arn, {})[0]["turn"] == 1


def test_an_explicit_deny_of_the_resource_beats_all(stage, user, put):
    key = user(allow("*"))
    data, root = data_of(stage.server, key), stage.server.data
    call = {"agentRuntimeArn": stage.arn, "payload": b"{}"}
    for arn in (stage.arn, stage.endpoint):
        put(arn, deny("*", arn, Principal="*"))
        denied(data.invoke_agent_runtime, **call, words=f"{re.escape(arn)} with an explicit deny in a resource-based policy")
        denied(root.invoke_agent_runtime, **call, words=":root is not authorized.*explicit deny in a resource-based policy")
        if arn == stage.arn:
            denied(stage.control.get_agent_runtime, agentRuntimeId=stage.id, words="explicit deny")
            denied(stage.control.delete_agent_runtime, agentRuntimeId=stage.id, words="explicit deny")
        # Nobody can lock out themselves: policies are read and removed by who may by identity.
        assert "Deny" in control_of(stage.server, key).get_resource_policy(resourceArn=arn)["policy"]
        stage.control.delete_resource_policy(resourceArn=arn)
        assert invoke(data, stage.arn, {})[0]["turn"] == 1
    put(stage.arn, deny(INVOKE, stage.arn, Principal={"AWS": key.arn}))
    denied(data.invoke_agent_runtime, **call, words="explicit deny")
    assert invoke(root, stage.arn, {})[0]["turn"] == 1
    # All but one.
    put(stage.arn, {"Effect": "Deny", "NotPrincipal": {"AWS": [key.arn, f"arn:aws:iam::{ACCOUNT}:root"]}, "Action": "*", "Resource": stage.arn})
    assert invoke(data, stage.arn, {})[0]["turn"] == 1
    denied(data_of(stage.server, user(allow("*"))).invoke_agent_runtime, **call, words="explicit deny")


def test_another_account_needs_both_sides(stage, user, put):
    key = user(account=OTHER_ACCOUNT)
    data, arns = data_of(stage.server, key), (stage.arn, stage.endpoint)
    call = {"agentRuntimeArn": stage.arn, "payload": b"{}"}
    assert client(stage.server, "sts", key).get_caller_identity()["Arn"] == key.arn
    denied(data.invoke_agent_runtime, **call, words=f"User: {key.arn} is not authorized.* no identity-based policy")
    for arn in arns:
        put(arn, principal(key.arn, resource=arn))
    denied(data.invoke_agent_runtime, **call, words="no identity-based policy")
    name = key.arn.rsplit("/", 1)[1]
    give = lambda *statements: stage.iam.ok("PUT", f"users/{name}/policies/own?accountId={OTHER_ACCOUNT}", policy(*statements))
    give(allow(INVOKE, stage.arn))
    denied(data.invoke_agent_runtime, **call, words=f"{stage.endpoint} because no identity-based policy")
    give(allow(INVOKE, f"{stage.arn}*"))
    assert invoke(data, stage.arn, {})[0]["turn"] == 1
    assert invoke(data, stage.id, {}, accountId=ACCOUNT)[0]["turn"] == 1
    for arn in arns:
        text = stage.control.get_resource_policy(resourceArn=arn)["policy"]
        take(stage, arn)
        denied(data.invoke_agent_runtime, **call, words=f"{arn} because no resource-based policy")
        stage.control.put_resource_policy(resourceArn=arn, policy=text)
    # The account as such: the say is with its own policies.
    for arn in arns:
        put(arn, principal(OTHER_ACCOUNT, resource=arn))
    assert invoke(data, stage.arn, {})[0]["turn"] == 1
    give(allow(INVOKE, f"{stage.arn}*"), deny(INVOKE, stage.endpoint))
    denied(data.invoke_agent_runtime, **call, words="explicit deny in an identity-based policy")
    # Another account's administrator is nobody here.
    give(allow("*"))
    denied(control_of(stage.server, key).list_agent_runtimes, words="no resource-based policy")
    denied(control_of(stage.server, key).put_resource_policy, resourceArn=stage.arn, policy="{}", words="no resource-based policy")
    status, _ = Iam(stage.server, key).call("GET", f"users?accountId={ACCOUNT}")
    assert status == 403


def test_a_role_of_this_account_for_somebody_of_another(stage, user, put):
    """A session of a role is meant by the role's ARN, or by its own."""
    key = user(allow("sts:AssumeRole"), account=OTHER_ACCOUNT)
    role = stage.iam.role("visitor", policy({"Effect": "Allow", "Principal": {"AWS": key.arn}, "Action": "sts:AssumeRole"}))
    sts = client(stage.server, "sts", key)
    one, two = (temporary(sts.assume_role(RoleArn=role, RoleSessionName=name)) for name in ("one", "two"))
    for named in (role, f"arn:aws:sts::{ACCOUNT}:assumed-role/visitor/one"):
        for arn in (stage.arn, stage.endpoint):
            put(arn, principal(named, resource=arn))
        assert invoke(data_of(stage.server, one), stage.arn, {})[0]["turn"] == 1
        if named == role:
            assert invoke(data_of(stage.server, two), stage.arn, {})[0]["turn"] == 1
        else:
            denied(data_of(stage.server, two).invoke_agent_runtime, agentRuntimeArn=stage.arn, payload=b"{}", words="assumed-role/visitor/two")
    stage.iam.ok("DELETE", "roles/visitor")


def bearer(stage, token, address=None):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", SESSION: session_id()}
    headers |= {"X-Forwarded-For": address} if address else {}
    url = f"{stage.server.url}/runtimes/{quote(stage.bearer, safe='')}/invocations?qualifier=DEFAULT"
    return requests.post(url, headers=headers, data=b"{}", timeout=60)


def test_a_bearer_is_anybody_from_somewhere(stage, put):
    token, arns = stage.provider.token(), (stage.bearer, f"{stage.bearer}/runtime-endpoint/DEFAULT")
    assert bearer(stage, token).status_code == 200, "without a policy the token is enough"
    inside = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}

    def refused(words, address=None):
        reply = bearer(stage, token, address)
        assert reply.status_code == 403 and re.search(words, reply.json()["message"]), reply.text
        assert reply.headers["x-amzn-ErrorType"].startswith("AccessDeniedException")

    for arn in arns:
        put(arn, allow(INVOKE, arn, Principal="*", Condition=inside))
    refused("no resource-based policy allows")
    refused("no resource-based policy allows", "198.51.100.1")
    assert bearer(stage, token, "192.0.2.7").status_code == 200
    assert bearer(stage, "garbage", "192.0.2.7").status_code == 401, "the token comes first"
    # Both must agree.
    put(arns[1], deny("*", arns[1], Principal="*", Condition=inside), allow(INVOKE, arns[1], Principal="*"))
    refused("explicit deny in a resource-based policy", "192.0.2.7")
    put(arns[0], allow(INVOKE, arns[0], Principal="*"))
    assert bearer(stage, token).status_code == 200
    # Whoever is named is not a bearer.
    put(arns[0], principal(f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, resource=arns[0]))
    refused("no resource-based policy allows")
    take(stage, arns[0])
    assert bearer(stage, token).status_code == 200
    # By a claim of the token.
    for subject, status in (("backend", 200), ("maria", 403)):
        put(arns[0], allow(INVOKE, arns[0], Principal="*", Condition={"StringEquals": {"bedrock-agentcore:InboundJwtClaim/sub": subject}}))
        assert bearer(stage, token).status_code == status


def test_policies_survive_restarts_and_go_with_the_runtime(stage, put):
    """Last in this file: the server starts again."""
    server = stage.server
    texts = {arn: put(arn, deny(INVOKE, arn, Principal="*")) for arn in (stage.arn, stage.endpoint)}
    for end in (server.stop, server.kill):
        end()
        server.start()
        control = server.control
        for arn, text in texts.items():
            assert control.get_resource_policy(resourceArn=arn)["policy"] == text
        denied(server.data.invoke_agent_runtime, agentRuntimeArn=stage.arn, payload=b"{}", words="explicit deny")
    stage.control, stage.iam = control, Iam(server)
    # Killed right after the answer: what was answered is in force.
    for arn in texts:
        control.delete_resource_policy(resourceArn=arn)
    last = json.dumps(policy(deny(INVOKE, stage.endpoint, Principal="*", Sid="Last")))
    control.put_resource_policy(resourceArn=stage.endpoint, policy=last)
    server.kill()
    server.start()
    control = stage.control = server.control
    assert control.get_resource_policy(resourceArn=stage.endpoint)["policy"] == last
    assert code(control.get_resource_policy, resourceArn=stage.arn)[1] == 404
    denied(server.data.invoke_agent_runtime, agentRuntimeArn=stage.arn, payload=b"{}", words="explicit deny")

    # What goes takes its policy along, and what is made anew in its place begins without.
    gone = control.exceptions.ResourceNotFoundException
    short, named = f"{stage.arn}/runtime-endpoint/short", {"agentRuntimeId": stage.id, "endpointName": "short"}
    for _ in range(2):
        control.create_agent_runtime_endpoint(agentRuntimeId=stage.id, name="short")
        assert code(control.get_resource_policy, resourceArn=short)[1] == 404
        wait_endpoint(control, stage.id, "short", "1")
        assert invoke(server.data, stage.arn, {}, qualifier="short")[0]["turn"] == 1
        control.put_resource_policy(resourceArn=short, policy=json.dumps(policy(deny(INVOKE, short, Principal="*"))))
        denied(server.data.invoke_agent_runtime, agentRuntimeArn=stage.arn, qualifier="short", payload=b"{}", words="explicit deny")
        control.delete_agent_runtime_endpoint(**named)
        wait_gone(lambda: control.get_agent_runtime_endpoint(**named), gone)
    control.delete_agent_runtime(agentRuntimeId=stage.id)
    wait_gone(lambda: control.get_agent_runtime(agentRuntimeId=stage.id), gone)
    for arn in (stage.arn, stage.endpoint, short):
        assert code(control.get_resource_policy, resourceArn=arn)[:2] == ("ResourceNotFoundException", 404)
