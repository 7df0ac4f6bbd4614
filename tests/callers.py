"""Who calls, in tests: users, roles and keys of a server, their policies, and clients that sign with them."""

import json
import re
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ACCOUNT = "123456789012"
OTHER_ACCOUNT = "210987654321"
ONCE = Config(retries={"total_max_attempts": 1})


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action, resource="*", **more):
    return allow(action, resource, **more) | {"Effect": "Deny"}


def trust(principal, action="sts:AssumeRole", **more):
    return policy({"Effect": "Allow", "Principal": principal, "Action": action, **more})


class Iam:
    """Signed requests to paths of ours, most of them below /_eyot/iam/."""

    def __init__(self, server, key=None):
        env = server.env()
        self.url, self.region = server.url, env["AWS_REGION"]
        self.credentials = key or Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])

    def call(self, method, path, body=None):
        """Status and document."""
        return self.own(method, f"iam/{path}", body)

    def own(self, method, path, body=None):
        """Status and document of any path of ours."""
        data = b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(method=method, url=f"{self.url}/_eyot/{path}", data=data)
        SigV4Auth(self.credentials, "bedrock-agentcore", self.region).add_auth(request)
        plain = urllib.request.Request(request.url, data=data or None, headers=dict(request.headers), method=method)
        try:
            with urllib.request.urlopen(plain, timeout=60) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as refused:
            text, status = refused.read(), refused.code
        return status, json.loads(text) if text else None

    def ok(self, method, path, body=None):
        status, document = self.call(method, path, body)
        assert status < 300, (status, document)
        return document

    def user(self, name, *statements, account=ACCOUNT):
        """A user with a key and what it may do."""
        of = f"?accountId={account}"
        self.ok("POST", f"users{of}", {"userName": name})
        if statements:
            self.ok("PUT", f"users/{name}/policies/test{of}", policy(*statements))
        key = self.ok("POST", f"users/{name}/keys{of}")
        return Credentials(key["accessKeyId"], key["secretAccessKey"])

    def role(self, name, trust_policy, *statements):
        role = self.ok("POST", "roles", {"roleName": name, "trustPolicy": trust_policy})
        if statements:
            self.ok("PUT", f"roles/{name}/policies/test", policy(*statements))
        return role["arn"]


def client(server, service, key):
    return boto3.client(
        service, endpoint_url=server.url, region_name="us-west-2", config=ONCE, aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key, aws_session_token=key.token,
    )


def control_of(server, key):
    return client(server, "bedrock-agentcore-control", key)


def data_of(server, key):
    return client(server, "bedrock-agentcore", key)


def temporary(answer):
    given = answer["Credentials"]
    return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def code(call, *args, **kwargs):
    with pytest.raises(ClientError) as refused:
        call(*args, **kwargs)
    error = refused.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


def denied(call, *args, words="", **kwargs):
    """That a call is refused for what its caller may, or its credentials; answers the message."""
    name, status, message = code(call, *args, **kwargs)
    assert (name, status) == ("AccessDeniedException", 403) and re.search(words, message), (name, status, message)
    return message
