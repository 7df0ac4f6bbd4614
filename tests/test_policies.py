"""Identity policies as boto3 and the command line meet them: what a user may, what it is told, and how soon that changes."""

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from callers import ACCOUNT, Iam, allow, code, control_of, data_of, denied, deny, policy
from conftest import Server, deploy_files, invoke, sandbox_leftovers, session_id, wait_endpoint, wait_gone, wait_ready

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
PREFIX = f"arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime"
CREATED = ("agentRuntimeArtifact", "roleArn", "networkConfiguration")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A server with one runtime and an endpoint beside DEFAULT."""
    directory = tmp_path_factory.mktemp("policies")
    server = Server(directory / "data", driver="process").start()
    try:
        arn = deploy_files(server, directory, "shared", {"main.py": PLAIN})
        runtime = arn.rsplit("/", 1)[1]
        control = server.control
        control.create_agent_runtime_endpoint(agentRuntimeId=runtime, name="prod")
        wait_endpoint(control, runtime, "prod", "1")
        like = control.get_agent_runtime(agentRuntimeId=runtime)
        yield SimpleNamespace(
            server=server, iam=Iam(server), arn=arn, id=runtime, control=control,
            created={part: like[part] for part in CREATED},
        )
    finally:
        code = server.stop()
    assert code == 0, server.stderr_text()
    assert sandbox_leftovers(server.data_dir) == []


@pytest.fixture
def user(stage, request):
    """Makes users of this test's, by their policy's statements; answers their keys."""
    made = []

    def make(*statements, name=None):
        name = name or f"{request.node.originalname.removeprefix('test_')[:50]}-{len(made)}"
        made.append(name)
        key = stage.iam.user(name, *statements)
        key.name = name
        return key

    yield make
    for name in made:
        stage.iam.call("DELETE", f"users/{name}")


def give(stage, key, *statements, name="test"):
    stage.iam.ok("PUT", f"users/{key.name}/policies/{name}", policy(*statements))


def refusal(who, action, resource, because):
    return (
        f"User: arn:aws:iam::{ACCOUNT}:user/{who} is not authorized to perform: bedrock-agentcore:{action} "
        f"on resource: {resource} {because}"
    )


def no_policy(who, action, resource):
    because = f"because no identity-based policy allows the bedrock-agentcore:{action} action"
    return refusal(who, action, resource, because)


def test_a_user_without_a_policy_may_nothing(stage, tmp_path):
    """Made by the command line, refused in AWS's words, whatever the call is."""
    iam = lambda *words: stage.server.cli("iam", *words).stdout
    iam("users", "create", "new")
    made = json.loads(iam("keys", "create", "--user", "new", "-o", "json"))
    key = SimpleNamespace(access_key=made["accessKeyId"], secret_key=made["secretAccessKey"], token=None)
    control, data = control_of(stage.server, key), data_of(stage.server, key)
    runtime, every = {"agentRuntimeId": stage.id}, f"{PREFIX}/*"
    prod = f"{stage.arn}/runtime-endpoint/prod"
    for call, action, resource, parameters in [
        (control.list_agent_runtimes, "ListAgentRuntimes", every, {}),
        (control.create_agent_runtime, "CreateAgentRuntime", every, {"agentRuntimeName": "mine", **stage.created}),
        (control.get_agent_runtime, "GetAgentRuntime", stage.arn, runtime),
        (control.update_agent_runtime, "UpdateAgentRuntime", stage.arn, runtime | stage.created),
        (control.delete_agent_runtime, "DeleteAgentRuntime", stage.arn, runtime),
        (control.list_agent_runtime_versions, "ListAgentRuntimeVersions", stage.arn, runtime),
        (control.list_agent_runtime_endpoints, "ListAgentRuntimeEndpoints", stage.arn, runtime),
        (control.get_agent_runtime_endpoint, "GetAgentRuntimeEndpoint", stage.arn, runtime | {"endpointName": "prod"}),
        (control.list_tags_for_resource, "ListTagsForResource", prod, {"resourceArn": prod}),
        (control.get_resource_policy, "GetResourcePolicy", prod, {"resourceArn": prod}),
        (data.invoke_agent_runtime, "InvokeAgentRuntime", stage.arn, {"agentRuntimeArn": stage.arn, "payload": b"{}"}),
        (data.stop_runtime_session, "StopRuntimeSession", stage.arn,
         {"agentRuntimeArn": stage.arn, "runtimeSessionId": session_id()}),
    ]:
        assert denied(call, **parameters) == no_policy("new", action, resource)
    assert stage.control.get_agent_runtime(**runtime)["agentRuntimeVersion"] == "1"
    (tmp_path / "policy.json").write_text(json.dumps(policy(allow("bedrock-agentcore:Get*"))))
    iam("policies", "put", "--user", "new", "read", str(tmp_path / "policy.json"))
    assert control.get_agent_runtime(**runtime)["status"] == "READY"
    iam("users", "delete", "new")
    denied(control.get_agent_runtime, **runtime, words="security token included in the request is invalid")


def test_who_may_not_does_not_learn_what_is_there(stage, user):
    """What is there and what is not answer alike, but for the ARN that the caller itself has given."""
    nobody, reader = user(), user(allow("bedrock-agentcore:*", f"{stage.arn}*"))
    everything = user(allow("bedrock-agentcore:*"))
    ghost = "shared-0000000000"

    def ask(key, runtime, endpoint):
        control, data = control_of(stage.server, key), data_of(stage.server, key)
        runtime_id = {"agentRuntimeId": runtime}
        arn = f"{PREFIX}/{runtime}"
        of_endpoint = f"{arn}/runtime-endpoint/{endpoint}"
        calls = [
            (control.get_agent_runtime, runtime_id),
            (control.delete_agent_runtime, runtime_id),
            (control.get_agent_runtime_endpoint, runtime_id | {"endpointName": endpoint}),
            (control.list_tags_for_resource, {"resourceArn": arn}),
            (control.get_resource_policy, {"resourceArn": of_endpoint}),
            (data.invoke_agent_runtime, {"agentRuntimeArn": arn, "qualifier": endpoint, "payload": b"{}"}),
            (data.stop_runtime_session, {"agentRuntimeArn": arn, "qualifier": endpoint, "runtimeSessionId": session_id()}),
        ]
        answers = [code(call, **parameters) for call, parameters in calls]
        blank = re.compile(f"{runtime}|(?<=runtime-endpoint/){endpoint}|(?<=user/)[\\w-]+")
        return [(name, status, blank.sub("…", said)) for name, status, said in answers]

    # Existing runtime and endpoint, no such endpoint, no such runtime.
    there = ask(nobody, stage.id, "prod")
    assert {(name, status) for name, status, _ in there} == {("AccessDeniedException", 403)}
    assert there == ask(nobody, stage.id, "none") == ask(nobody, ghost, "prod") == ask(reader, ghost, "prod")
    missing = ask(everything, ghost, "prod")
    assert {(name, status) for name, status, _ in missing} == {("ResourceNotFoundException", 404)}, missing


def test_invoking_needs_the_runtime_and_the_endpoint(stage, user):
    prod, default = (f"{stage.arn}/runtime-endpoint/{name}" for name in ("prod", "DEFAULT"))
    action = "bedrock-agentcore:InvokeAgentRuntime"
    key = user(allow(action, stage.arn))
    data = data_of(stage.server, key)
    call = {"agentRuntimeArn": stage.arn, "payload": b"{}"}
    assert denied(data.invoke_agent_runtime, **call) == no_policy(key.name, "InvokeAgentRuntime", default)
    give(stage, key, allow(action, prod))
    assert denied(data.invoke_agent_runtime, **call, qualifier="prod") == no_policy(key.name, "InvokeAgentRuntime", stage.arn)
    give(stage, key, allow(action, [stage.arn, prod]))
    assert invoke(data, stage.arn, {}, qualifier="prod")[0]["turn"] == 1
    denied(data.invoke_agent_runtime, **call, words=re.escape(default))
    give(stage, key, allow(action, f"{stage.arn}*"))
    assert invoke(data, stage.arn, {})[0]["turn"] == 1
    # By its id, as people without an ARN do.
    assert invoke(data, stage.id, {}, accountId=ACCOUNT)[0]["turn"] == 1


def test_a_user_id_and_a_stop_need_their_own_actions(stage, user):
    key = user(allow("bedrock-agentcore:InvokeAgentRuntime"))
    data, session = data_of(stage.server, key), session_id()
    assert invoke(data, stage.arn, {}, session)[0]["turn"] == 1
    for_user = {"agentRuntimeArn": stage.arn, "runtimeSessionId": session, "runtimeUserId": "maria", "payload": b"{}"}
    assert denied(data.invoke_agent_runtime, **for_user) == no_policy(key.name, "InvokeAgentRuntimeForUser", stage.arn)
    stop = {"agentRuntimeArn": stage.arn, "runtimeSessionId": session}
    assert denied(data.stop_runtime_session, **stop) == no_policy(key.name, "StopRuntimeSession", stage.arn)
    assert invoke(data, stage.arn, {}, session)[0]["turn"] == 2, "the session that may not be stopped was stopped"
    give(stage, key, allow(["bedrock-agentcore:InvokeAgentRuntimeForUser", "bedrock-agentcore:StopRuntimeSession"]), name="more")
    assert invoke(data, stage.arn, {}, session, runtimeUserId="maria")[0]["turn"] == 3
    data.stop_runtime_session(**stop)
    assert invoke(data, stage.arn, {}, session)[0]["turn"] == 1
    give(stage, key, allow("bedrock-agentcore:InvokeAgentRuntimeForUser"))
    denied(data.invoke_agent_runtime, **for_user, words="perform: bedrock-agentcore:InvokeAgentRuntime on")


def test_an_explicit_deny_wins(stage, user):
    key = user(allow("*"))
    control, data = control_of(stage.server, key), data_of(stage.server, key)
    assert invoke(data, stage.arn, {})[0]["turn"] == 1
    give(stage, key, deny("bedrock-agentcore:Invoke*", f"{stage.arn}/runtime-endpoint/DEFAULT"), name="not-default")
    said = denied(data.invoke_agent_runtime, agentRuntimeArn=stage.arn, payload=b"{}")
    because = "with an explicit deny in an identity-based policy"
    assert said == refusal(key.name, "InvokeAgentRuntime", f"{stage.arn}/runtime-endpoint/DEFAULT", because)
    assert invoke(data, stage.arn, {}, qualifier="prod")[0]["turn"] == 1
    control.get_agent_runtime(agentRuntimeId=stage.id)
    stage.iam.ok("DELETE", f"users/{key.name}/policies/not-default")
    assert invoke(data, stage.arn, {})[0]["turn"] == 1


def test_all_but_what_is_named(stage, user):
    """NotAction and NotResource."""
    key = user({"Effect": "Allow", "NotAction": ["bedrock-agentcore:Delete*", "eyot:*"], "Resource": "*"})
    control = control_of(stage.server, key)
    control.list_agent_runtimes()
    denied(control.delete_agent_runtime, agentRuntimeId=stage.id, words="no identity-based policy")
    give(stage, key, {"Effect": "Allow", "Action": "bedrock-agentcore:*", "NotResource": f"{PREFIX}/shared-*"})
    control.list_agent_runtimes()
    denied(control.get_agent_runtime, agentRuntimeId=stage.id, words="no identity-based policy")
    assert code(control.get_agent_runtime, agentRuntimeId="other-0000000000")[:2] == ("ResourceNotFoundException", 404)


def moment(**ahead):
    return (datetime.now(timezone.utc) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("holds, condition", [
    (True, lambda who: {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "127.0.0.0/8"]}}),
    (False, lambda who: {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),
    (False, lambda who: {"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}),
    (True, lambda who: {"DateGreaterThan": {"aws:CurrentTime": moment(minutes=-1)}, "DateLessThan": {"aws:CurrentTime": moment(minutes=1)}}),
    (False, lambda who: {"DateGreaterThan": {"aws:CurrentTime": moment(minutes=1)}}),
    (True, lambda who: {"Bool": {"aws:SecureTransport": "false"}}),
    (False, lambda who: {"Bool": {"aws:SecureTransport": "true"}}),
    (True, lambda who: {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::*:user/{who}"}}),
    (True, lambda who: {"StringEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/{who}", "aws:username": who}}),
    (False, lambda who: {"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/{who}"}}),
    (True, lambda who: {"StringLike": {"aws:UserAgent": "Boto3/*"}, "StringEquals": {"aws:RequestedRegion": "us-west-2"}}),
    (True, lambda who: {"Null": {"aws:TokenIssueTime": "true"}, "StringEqualsIfExists": {"aws:PrincipalTag/team": "red"}}),
    (False, lambda who: {"StringEquals": {"aws:PrincipalTag/team": "red"}}),
])
def test_conditions_of_any_call(stage, user, holds, condition):
    """The same condition lets in where it allows and keeps out where it denies."""
    name = "conditional"
    key = user(allow("bedrock-agentcore:ListAgentRuntimes", Condition=condition(name)), name=name)
    ask = control_of(stage.server, key).list_agent_runtimes
    if holds:
        ask()
    else:
        denied(ask, words="no identity-based policy")
    give(stage, key, allow("*"), deny("bedrock-agentcore:*", Condition=condition(name)))
    if holds:
        denied(ask, words="explicit deny")
    else:
        ask()


def test_tags_of_the_request_and_of_the_resource(stage, user):
    key = user(
        allow("bedrock-agentcore:CreateAgentRuntime", Condition={"StringEquals": {"aws:RequestTag/team": "red"}}),
        allow(["bedrock-agentcore:Get*", "bedrock-agentcore:Invoke*"], Condition={"StringEquals": {"aws:ResourceTag/team": "red"}}),
        allow("iam:PassRole"),
        deny("bedrock-agentcore:CreateAgentRuntime", Condition={"ForAnyValue:StringLike": {"aws:TagKeys": "eyot:*"}}),
    )
    control, data = control_of(stage.server, key), data_of(stage.server, key)

    def create(tags):
        return control.create_agent_runtime(agentRuntimeName="tagged", **stage.created, **({"tags": tags} if tags else {}))

    for tags in (None, {"team": "blue"}, {"Team": "blue", "other": "red"}):
        denied(create, tags, words="no identity-based policy allows the bedrock-agentcore:CreateAgentRuntime")
    denied(create, {"team": "red", "eyot:warm": "1"}, words="explicit deny")
    made = create({"team": "red"})
    runtime, arn = made["agentRuntimeId"], made["agentRuntimeArn"]
    wait_ready(control, runtime)  # asks as this user
    get = lambda: control.get_agent_runtime(agentRuntimeId=runtime)
    # The endpoint is asked for as well and has no tag.
    denied(data.invoke_agent_runtime, agentRuntimeArn=arn, payload=b"{}", words="runtime-endpoint/DEFAULT because no")

    # Tags count from the next call on.
    stage.control.tag_resource(resourceArn=arn, tags={"team": "blue"})
    denied(get, words="no identity-based policy")
    stage.control.tag_resource(resourceArn=arn, tags={"team": "red"})
    assert get()["status"] == "READY"
    stage.control.untag_resource(resourceArn=arn, tagKeys=["team"])
    denied(get, words="no identity-based policy")

    # Those of an endpoint as well, from the call on that makes it.
    give(stage, key, allow("bedrock-agentcore:*"), deny("bedrock-agentcore:Get*", Condition={"StringEquals": {"aws:ResourceTag/for": "others"}}))
    control.create_agent_runtime_endpoint(agentRuntimeId=runtime, name="theirs", tags={"for": "others"})
    denied(control.get_agent_runtime_endpoint, agentRuntimeId=runtime, endpointName="theirs", words="explicit deny")
    stage.control.delete_agent_runtime(agentRuntimeId=runtime)
    wait_gone(lambda: stage.control.get_agent_runtime(agentRuntimeId=runtime), stage.control.exceptions.ResourceNotFoundException)


def test_a_variable_in_a_resource(stage, user):
    """One policy for everybody: each user has the runtimes that begin with its name."""
    mine = allow("bedrock-agentcore:*", [f"{PREFIX}/${{aws:username}}-*"])
    owner, other = user(mine, name="shared"), user(mine, name="somebody")
    assert control_of(stage.server, owner).get_agent_runtime(agentRuntimeId=stage.id)["agentRuntimeArn"] == stage.arn
    assert invoke(data_of(stage.server, owner), stage.arn, {})[0]["turn"] == 1
    denied(control_of(stage.server, other).get_agent_runtime, agentRuntimeId=stage.id, words="no identity-based policy")
    # A name is a text, never a pattern: variables do not match what AWS would not.
    star = user(allow("bedrock-agentcore:*", [f"{PREFIX}/${{aws:PrincipalTag/none}}*"]), name="untagged")
    denied(control_of(stage.server, star).get_agent_runtime, agentRuntimeId=stage.id, words="no identity-based policy")


def test_our_own_routes_have_actions_too(stage, user, tmp_path):
    key, session = user(), session_id()
    env = {"AWS_ACCESS_KEY_ID": key.access_key, "AWS_SECRET_ACCESS_KEY": key.secret_key}
    invoke(stage.server.data, stage.arn, {}, session)

    def eyot(*words, check=False):
        return stage.server.cli(*words, env=env, check=check)

    def refused(action, *words):
        done = eyot(*words)
        assert done.returncode != 0 and f"user/{key.name} is not authorized to perform: {action} on" in done.stderr, done.stderr

    source = tmp_path / "agent"
    source.mkdir()
    (source / "main.py").write_text(PLAIN)
    refused("eyot:ListSessions", "sessions", "list")
    refused("eyot:GetSession", "sessions", "show", session)
    refused("eyot:GetSessionLogs", "sessions", "logs", session)
    refused("eyot:StopSession", "sessions", "stop", session)
    refused("eyot:GetUsage", "sessions", "usage")
    refused("eyot:ListUsers", "iam", "users", "list")
    assert eyot("iam", "whoami", check=True).stdout, "who somebody is they may know"
    # What `eyot deploy` asks first is where to put things, which is about the store itself.
    store = allow("eyot:GetArtifact", f"arn:aws:eyot:us-west-2:{ACCOUNT}:artifact/")
    give(stage, key, allow("bedrock-agentcore:*"))
    refused("eyot:GetArtifact", "deploy", str(source), "--name", "by_user")
    give(stage, key, allow("bedrock-agentcore:*"), store)
    refused("eyot:PutArtifact", "deploy", str(source), "--name", "by_user")

    give(stage, key, allow(["eyot:ListSessions", "eyot:GetSession"]))
    assert session in eyot("sessions", "list", check=True).stdout
    eyot("sessions", "show", session, check=True)
    refused("eyot:StopSession", "sessions", "stop", session)
    # Those of one runtime.
    give(stage, key, allow("eyot:*Session*", stage.arn))
    assert session in eyot("sessions", "list", "--runtime", stage.id, check=True).stdout
    refused("eyot:ListSessions", "sessions", "list")
    refused("eyot:ListSessions", "sessions", "list", "--runtime", "other-0000000000")
    # A denial for one holds also for who does not say whose session it is.
    give(stage, key, allow("eyot:*"), deny("eyot:*Session*", stage.arn))
    refused("eyot:GetSession", "sessions", "show", session)
    refused("eyot:GetSessionLogs", "sessions", "logs", session)
    refused("eyot:StopSession", "sessions", "stop", session)
    refused("eyot:StopSession", "sessions", "stop", "--all")
    give(stage, key, allow("eyot:*Session*", stage.arn))
    eyot("sessions", "stop", session, "--runtime", stage.id, check=True)

    # A deployment of one's own, whose code nobody else reads.
    give(stage, key, allow(["bedrock-agentcore:*", "iam:PassRole"]), allow("eyot:PutArtifact"), store)
    assert "arn:aws:bedrock-agentcore" in eyot("deploy", str(source), "--name", "by_user", check=True).stdout
    where = stage.created["agentRuntimeArtifact"]["codeConfiguration"]["code"]["s3"]
    status, document = Iam(stage.server, key).own("GET", f"artifacts/{where['bucket']}/{where['prefix']}")
    assert status == 403 and "perform: eyot:GetArtifact on" in document["message"], document


def test_whoever_makes_runtimes_may_give_them_only_the_roles_that_it_may_pass(stage, user):
    """Otherwise it could act as any role that agents may have."""
    key, role = user(allow("bedrock-agentcore:*")), stage.created["roleArn"]
    control = control_of(stage.server, key)

    def create(name):
        return control.create_agent_runtime(agentRuntimeName=name, **stage.created)

    def refused(call):
        with pytest.raises(control.exceptions.AccessDeniedException) as caught:
            call()
        said = caught.value.response["Error"]["Message"]
        assert f"is not authorized to perform: iam:PassRole on resource: {role} because" in said, said

    refused(lambda: create("passing"))
    of_agents = {"StringEquals": {"iam:PassedToService": "bedrock-agentcore.amazonaws.com"}}
    give(stage, key, allow("bedrock-agentcore:*"), allow("iam:PassRole", f"{role}-of-others", Condition=of_agents))
    refused(lambda: create("passing"))
    give(stage, key, allow("bedrock-agentcore:*"), allow("iam:PassRole", role, Condition=of_agents))
    made = create("passing")["agentRuntimeId"]
    wait_ready(control, made)
    give(stage, key, allow("bedrock-agentcore:*"))
    refused(lambda: control.update_agent_runtime(agentRuntimeId=made, **stage.created))
    control.delete_agent_runtime(agentRuntimeId=made)


def test_the_whole_lifecycle_with_one_statement(stage, user):
    key = user(allow(["bedrock-agentcore:*", "iam:PassRole"]))
    control, data = control_of(stage.server, key), data_of(stage.server, key)
    made = control.create_agent_runtime(agentRuntimeName="whole", **stage.created, tags={"team": "red"})
    runtime, arn = {"agentRuntimeId": made["agentRuntimeId"]}, made["agentRuntimeArn"]
    wait_ready(control, runtime["agentRuntimeId"])
    assert arn in [known["agentRuntimeArn"] for known in control.list_agent_runtimes()["agentRuntimes"]]
    control.create_agent_runtime_endpoint(**runtime, name="live", agentRuntimeVersion="1")
    wait_endpoint(control, runtime["agentRuntimeId"], "live", "1")
    session = session_id()
    assert invoke(data, arn, {}, session, qualifier="live", runtimeUserId="maria")[0]["turn"] == 1
    data.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session, qualifier="live")
    control.update_agent_runtime(**runtime, **stage.created, description="changed")
    wait_ready(control, runtime["agentRuntimeId"])
    assert len(control.list_agent_runtime_versions(**runtime)["agentRuntimes"]) == 2
    control.update_agent_runtime_endpoint(**runtime, endpointName="live", agentRuntimeVersion="2")
    wait_endpoint(control, runtime["agentRuntimeId"], "live", "2")
    assert len(control.list_agent_runtime_endpoints(**runtime)["runtimeEndpoints"]) == 2
    control.tag_resource(resourceArn=arn, tags={"more": "1"})
    control.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"more": "1"}
    own = json.dumps(policy(allow("bedrock-agentcore:InvokeAgentRuntime", arn, Principal="*")))
    control.put_resource_policy(resourceArn=arn, policy=own)
    assert control.get_resource_policy(resourceArn=arn)["policy"] == own
    control.delete_resource_policy(resourceArn=arn)
    control.delete_agent_runtime_endpoint(**runtime, endpointName="live")
    gone = control.exceptions.ResourceNotFoundException
    wait_gone(lambda: control.get_agent_runtime_endpoint(**runtime, endpointName="live"), gone)
    control.delete_agent_runtime(**runtime)
    wait_gone(lambda: control.get_agent_runtime(**runtime), gone)


def test_a_key_ends_at_once(stage, user):
    """Also one that the server has just verified and may have kept."""
    key = user(allow("bedrock-agentcore:*"))
    of = f"users/{key.name}"
    control, data = control_of(stage.server, key), data_of(stage.server, key)
    both = (control.list_agent_runtimes, lambda: invoke(data, stage.arn, {}))
    invalid = "security token included in the request is invalid"

    def works():
        for call in both:
            call()

    def ended(*calls):
        for call in calls or both:
            denied(call, words=invalid)

    works()
    stage.iam.ok("PATCH", f"{of}/keys/{key.access_key}", {"enabled": False})
    ended()
    stage.iam.ok("PATCH", f"{of}/keys/{key.access_key}", {"enabled": True})
    works()
    new = stage.iam.ok("POST", f"{of}/keys/{key.access_key}/rotate")
    ended()
    fresh = SimpleNamespace(access_key=new["accessKeyId"], secret_key=new["secretAccessKey"], token=None)
    again = control_of(stage.server, fresh)
    again.list_agent_runtimes()
    stage.iam.ok("DELETE", of)
    ended(again.list_agent_runtimes)
    # A new user of the same name is another one.
    stage.iam.ok("POST", "users", {"userName": key.name})
    ended(again.list_agent_runtimes)
