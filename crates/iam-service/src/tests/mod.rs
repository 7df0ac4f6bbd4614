//! What each request is in the words of policies, and the documents of STS to the byte.

mod record;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::id::AccountId;
use domain::{Bearer, Clock, Kind};
use front_door::body::full;
use front_door::forwarded::Origin;
use front_door::service::{OwnCall, OwnReply, Service, StsCall, StsReply};
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use iam::Directory;
use iam::directory::{NewRole, Parts};
use iam::names::Holder;
use jiff::Timestamp;
use serde_json::Value;
use storage::seal::MasterKey;
use storage::sqlite::Store;
use uuid::Uuid;

use crate::{Action, Federation, IamService, Identity, TokenFault};

const NOW: i64 = 1_795_341_600;

/// A provider that vouches for whoever says a word.
#[derive(Debug)]
struct Fake;

#[async_trait]
impl Federation for Fake {
    async fn verify(&self, token: &str) -> Result<Identity, TokenFault> {
        match token {
            "good" => Ok(Identity {
                provider: "id.example:8443/tenant".to_owned(),
                audience: Some("my-app".to_owned()),
                bearer: Arc::new(Bearer {
                    issuer: "https://id.example:8443/tenant".to_owned(),
                    subject: Some("user<1>".to_owned()),
                    claims: BTreeMap::from([("team".to_owned(), vec!["red".to_owned()])]),
                    rules: [0; 32],
                }),
            }),
            "old" => Err(TokenFault::Expired("Token has expired.".to_owned())),
            "down" => Err(TokenFault::Unreachable("The provider cannot be reached.".to_owned())),
            _ => Err(TokenFault::Invalid("Invalid signature.".to_owned())),
        }
    }
}

struct Bed {
    directory: Arc<Directory>,
    service: IamService,
    _dir: tempfile::TempDir,
}

fn own() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::from_fn(|| Timestamp::from_second(NOW).unwrap());
        let directory = Directory::open(Parts {
            records: Arc::new(Store::open(dir.path().join("state.db")).unwrap()),
            master: Arc::new(MasterKey::generate().unwrap()),
            account: own(),
            clock: clock.clone(),
        });
        let directory = Arc::new(directory.await.unwrap());
        Self {
            service: IamService::new(directory.clone(), Arc::new(Fake), clock),
            directory,
            _dir: dir,
        }
    }

    async fn role(&self, trust: &str) {
        let role = NewRole {
            holder: Holder::role(own(), "agent"),
            trust_policy: trust.to_owned(),
            max_session: None,
            description: None,
        };
        self.directory.create_role(role).await.unwrap();
    }

    fn call(&self, signed: bool, parameters: &[(&str, &str)]) -> StsCall {
        let (id, _) = self.directory.root().unwrap();
        let key = self.directory.find(&id, None).unwrap();
        StsCall {
            parameters: parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            key: signed.then_some(key),
            origin: Origin {
                address: [127, 0, 0, 1].into(),
                is_secure: false,
            },
            request_id: Uuid::nil(),
        }
    }

    /// Status and document.
    async fn sts(&self, signed: bool, parameters: &[(&str, &str)]) -> (u16, String) {
        let StsReply { reply, .. } = self.service.call_sts(self.call(signed, parameters)).await.unwrap();
        assert_eq!(reply.headers["content-type"], "text/xml");
        (reply.status.as_u16(), text(reply).await)
    }
}

async fn text(reply: OwnReply) -> String {
    let bytes = reply.body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn own_call(method: Method, target: &str, body: &str) -> OwnCall {
    let caller = domain::Principal::root(own(), "AKIA".to_owned());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    OwnCall {
        method,
        path: std::iter::once("iam")
            .chain(path.split('/'))
            .map(str::to_owned)
            .collect(),
        query: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        headers: HeaderMap::new(),
        body: full(body.to_owned()),
        caller: Arc::new(caller),
        request_id: Uuid::nil(),
    }
}

#[tokio::test]
async fn every_request_has_its_action_and_its_resource() {
    let bed = Bed::new().await;
    let mut seen = std::collections::HashSet::new();
    let mut check = |method: Method, path: &str, action: &str, arn: &str| {
        let access = bed.service.own_access(&own_call(method, path, "")).unwrap();
        assert_eq!((access.actions.len(), access.resources.len()), (1, 1));
        assert_eq!(access.actions[0], action);
        assert_eq!(&*access.resources[0].arn, arn);
        seen.insert(action.to_owned());
    };
    let (user, role) = ("arn:aws:iam::123456789012:user/a", "arn:aws:iam::123456789012:role/a");
    let (get, put, post, patch, delete) = (Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE);
    check(
        get.clone(),
        "users",
        "eyot:ListUsers",
        "arn:aws:iam::123456789012:user/*",
    );
    check(
        post.clone(),
        "users",
        "eyot:CreateUser",
        "arn:aws:iam::123456789012:user/*",
    );
    check(get.clone(), "users/a", "eyot:GetUser", user);
    check(delete.clone(), "users/a", "eyot:DeleteUser", user);
    check(get.clone(), "users/a/keys", "eyot:ListAccessKeys", user);
    check(post.clone(), "users/a/keys", "eyot:CreateAccessKey", user);
    check(post.clone(), "users/a/keys/K/rotate", "eyot:RotateAccessKey", user);
    check(patch.clone(), "users/a/keys/K", "eyot:UpdateAccessKey", user);
    check(delete.clone(), "users/a/keys/K", "eyot:DeleteAccessKey", user);
    check(get.clone(), "users/a/policies", "eyot:ListUserPolicies", user);
    check(get.clone(), "users/a/policies/p", "eyot:GetUserPolicy", user);
    check(put.clone(), "users/a/policies/p", "eyot:PutUserPolicy", user);
    check(delete.clone(), "users/a/policies/p", "eyot:DeleteUserPolicy", user);
    check(
        get.clone(),
        "roles",
        "eyot:ListRoles",
        "arn:aws:iam::123456789012:role/*",
    );
    check(
        post.clone(),
        "roles",
        "eyot:CreateRole",
        "arn:aws:iam::123456789012:role/*",
    );
    check(get.clone(), "roles/a", "eyot:GetRole", role);
    check(patch, "roles/a", "eyot:UpdateRole", role);
    check(delete.clone(), "roles/a", "eyot:DeleteRole", role);
    check(get.clone(), "roles/a/policies", "eyot:ListRolePolicies", role);
    check(get.clone(), "roles/a/policies/p", "eyot:GetRolePolicy", role);
    check(put, "roles/a/policies/p", "eyot:PutRolePolicy", role);
    check(delete, "roles/a/policies/p", "eyot:DeleteRolePolicy", role);
    check(post, "revocations", "eyot:RevokeCredentials", "*");
    check(
        get.clone(),
        "users/a?accountId=999999999999",
        "eyot:GetUser",
        "arn:aws:iam::999999999999:user/a",
    );
    let all: std::collections::HashSet<_> = Action::ALL.iter().map(|action| action.name().to_owned()).collect();
    assert_eq!(seen, all);

    let whoami = bed.service.own_access(&own_call(get.clone(), "whoami", "")).unwrap();
    assert!(whoami.actions.is_empty(), "everybody may know who they are");
    for (method, path, kind) in [
        (Method::PUT, "users", "method"),
        (Method::POST, "whoami", "method"),
        (get.clone(), "users/a?accountId=1", "accountId"),
    ] {
        let refused = bed.service.own_access(&own_call(method, path, "")).unwrap_err();
        assert!(
            matches!(&refused.kind, Kind::Invalid { fields, .. } if fields[0].name == kind),
            "{refused:?}"
        );
    }
    for path in ["", "other", "users/a/b", "users/a/keys/b/c", "roles/a/keys"] {
        let refused = bed.service.own_access(&own_call(get.clone(), path, "")).unwrap_err();
        assert_eq!(refused.kind, Kind::NotFound, "{path}");
    }
}

#[tokio::test]
async fn a_trust_policy_may_be_an_object_or_a_text() {
    let bed = Bed::new().await;
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}"#;
    for (name, trust) in [("one", policy.to_owned()), ("two", Value::from(policy).to_string())] {
        let body = format!(r#"{{"roleName":"{name}","trustPolicy":{trust}}}"#);
        let reply = bed
            .service
            .call_own(own_call(Method::POST, "roles", &body))
            .await
            .unwrap();
        assert_eq!(reply.status, 201);
        let role: Value = serde_json::from_str(&text(reply).await).unwrap();
        assert_eq!(role["trustPolicy"]["Statement"][0]["Effect"], "Allow");
    }
    let long = " ".repeat(200_000);
    let refused = bed
        .service
        .call_own(own_call(Method::POST, "roles", &long))
        .await
        .unwrap_err();
    assert!(refused.message.contains("more than 131072 bytes"), "{refused}");
}

#[tokio::test]
async fn who_calls() {
    let bed = Bed::new().await;
    let (status, document) = bed
        .sts(true, &[("Action", "GetCallerIdentity"), ("Version", "2011-06-15")])
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        document,
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::123456789012:root</Arn><UserId>123456789012</UserId><Account>123456789012</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>\
         </ResponseMetadata></GetCallerIdentityResponse>"
    );
}

#[tokio::test]
async fn what_is_refused_has_a_name_and_a_reason() {
    let bed = Bed::new().await;
    bed.role(r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"999999999999"},"Action":"sts:*"}]}"#)
        .await;
    let check = async |signed: bool, parameters: &[(&str, &str)], status: u16, code: &str, word: &str| {
        let (got, document) = bed.sts(signed, parameters).await;
        assert_eq!(got, status, "{document}");
        assert!(
            document.contains(&format!("<Error><Type>Sender</Type><Code>{code}</Code>")),
            "{document}"
        );
        assert!(document.contains(word), "{document}");
    };
    let role = ("RoleArn", "arn:aws:iam::123456789012:role/agent");
    let (assume, session) = (("Action", "AssumeRole"), ("RoleSessionName", "work"));
    check(true, &[], 400, "MissingAction", "Action").await;
    check(true, &[("Action", "Dance<b>")], 400, "InvalidAction", "Dance&lt;b&gt;").await;
    check(
        false,
        &[("Action", "GetCallerIdentity")],
        403,
        "MissingAuthenticationToken",
        "missing",
    )
    .await;
    let old = [("Action", "GetCallerIdentity"), ("Version", "2010-01-01")];
    check(true, &old, 400, "ValidationError", "Version must be 2011-06-15").await;
    check(true, &[assume, session], 400, "ValidationError", "RoleArn is required").await;
    check(
        true,
        &[assume, role, session],
        403,
        "AccessDenied",
        "no role trust policy allows",
    )
    .await;
    let pairs = [assume, role, session, ("PolicyArns.member.1.arn", "x")];
    check(
        true,
        &pairs,
        400,
        "ValidationError",
        "PolicyArns.member.1.arn is no parameter",
    )
    .await;
    check(
        true,
        &[assume, role, role, session],
        400,
        "ValidationError",
        "RoleArn is given more than once",
    )
    .await;
    let pairs = [assume, role, session, ("Tags.member.2.Key", "x")];
    check(true, &pairs, 400, "ValidationError", "Tags must be").await;
    let pairs = [assume, role, session, ("DurationSeconds", "soon")];
    check(true, &pairs, 400, "ValidationError", "DurationSeconds must be a number").await;
    let by = ("Action", "AssumeRoleWithWebIdentity");
    for (token, code) in [
        ("old", "ExpiredTokenException"),
        ("down", "IDPCommunicationError"),
        ("bad", "InvalidIdentityToken"),
    ] {
        check(
            false,
            &[by, role, session, ("WebIdentityToken", token)],
            400,
            code,
            ".</Message>",
        )
        .await;
    }
    check(
        false,
        &[by, role, session, ("WebIdentityToken", "good")],
        403,
        "AccessDenied",
        "<Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message>",
    )
    .await;
}

#[tokio::test]
async fn credentials_come_in_their_document() {
    let bed = Bed::new().await;
    bed.role(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},
            "Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"],
            "Condition":{"StringEquals":{"aws:RequestTag/team":"red","sts:RoleSessionName":"work"}}},
           {"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/id.example:8443/tenant"},
            "Action":"sts:AssumeRoleWithWebIdentity",
            "Condition":{"StringEquals":{"id.example:8443/tenant:aud":"my-app","id.example:8443/tenant:sub":"user<1>",
                                         "id.example:8443/tenant:team":"red"}}}]}"#,
    )
    .await;
    let role = ("RoleArn", "arn:aws:iam::123456789012:role/agent");
    let assume = [
        ("Action", "AssumeRole"),
        role,
        ("RoleSessionName", "work"),
        ("SourceIdentity", "someone"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "red"),
    ];
    let (status, document) = bed.sts(true, &assume).await;
    assert_eq!(status, 200, "{document}");
    let id = between(&document, "<AccessKeyId>", "</AccessKeyId>");
    let (secret, token) = (
        between(&document, "<SecretAccessKey>", "</SecretAccessKey>"),
        between(&document, "<SessionToken>", "</SessionToken>"),
    );
    let role_id = bed.directory.role(&Holder::role(own(), "agent")).unwrap().role_id;
    let packed = between(&document, "<PackedPolicySize>", "</PackedPolicySize>");
    assert_eq!(
        document,
        format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>2026-11-22T11:00:00Z</Expiration></Credentials><AssumedRoleUser>\
             <AssumedRoleId>{role_id}:work</AssumedRoleId>\
             <Arn>arn:aws:sts::123456789012:assumed-role/agent/work</Arn></AssumedRoleUser>\
             <PackedPolicySize>{packed}</PackedPolicySize><SourceIdentity>someone</SourceIdentity></AssumeRoleResult>\
             <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>\
             </AssumeRoleResponse>"
        )
    );
    let key = bed.directory.find(id, Some(token.as_bytes())).unwrap();
    assert_eq!(key.tags().unwrap()["team"], "red");

    let (status, document) = bed.sts(true, &assume[..5]).await;
    assert_eq!(status, 403, "without the tag's value: {document}");

    let by_token = [
        ("Action", "AssumeRoleWithWebIdentity"),
        role,
        ("RoleSessionName", "web"),
        ("WebIdentityToken", "good"),
    ];
    let (status, document) = bed.sts(false, &by_token).await;
    assert_eq!(status, 200, "{document}");
    assert!(
        document.contains(
            "<SubjectFromWebIdentityToken>user&lt;1&gt;</SubjectFromWebIdentityToken><Audience>my-app</Audience>\
             <Provider>arn:aws:iam::123456789012:oidc-provider/id.example:8443/tenant</Provider>"
        ),
        "{document}"
    );
    let (status, document) = bed.sts(true, &[("Action", "GetSessionToken")]).await;
    assert_eq!(status, 200);
    let id = between(&document, "<AccessKeyId>", "</AccessKeyId>");
    let token = between(&document, "<SessionToken>", "</SessionToken>");
    let key = bed.directory.find(id, Some(token.as_bytes())).unwrap();
    assert_eq!(key.principal().arn, "arn:aws:iam::123456789012:root");
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).expect(from);
    rest.split_once(to).expect(to).0
}
