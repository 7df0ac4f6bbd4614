//! Statements that are none, each the third of an otherwise good policy.

use super::Kind::{self, Identity, Resource, Session, Trust};
use super::faults::{STATEMENT, check};

const AWS: &str = "write \"*\", an account id of 12 digits, or an ARN of an account's root (arn:aws:iam::123456789012:root), a user, \
                   a role or a role's session (arn:aws:sts::123456789012:assumed-role/ROLE/SESSION), without wildcards";
const ACTION: &str = "write SERVICE:NAME, such as bedrock-agentcore:InvokeAgentRuntime, or \"*\"";
const ARN: &str = "write an ARN, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, or \"*\"";
const FORMS: &str = "write \"*\", or an object with AWS, Service or Federated";
const VARIABLE: &str = "write a condition key such as ${aws:username}, with a default ${aws:PrincipalTag/team, 'none'}, or ${*}, ${?}, ${$}";
const SHAPE: &str = "write {OPERATOR: {KEY: VALUE or [VALUE, …]}}";
const TIME: &str = "write a time such as 2026-11-25T16:00:00Z, or seconds since 1970";
const RANGE: &str = "write an address or a range, such as 203.0.113.0/24 or 2001:db8::/32";

/// Faults of the third statement of a policy.
fn check_third(kind: Kind, statement: &str, fault: &str, remedy: &str) {
    let good = match kind {
        Identity | Session => r#""Effect": "Allow", "Action": "*", "Resource": "*""#,
        Resource => r#""Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*""#,
        Trust => r#""Effect": "Allow", "Action": "*", "Principal": "*""#,
    };
    let text =
        format!(r#"{{"Version": "2012-10-17", "Statement": [{{"Sid": "A", {good}}}, {{{good}}}, {{{statement}}}]}}"#);
    let place = if fault.starts_with(':') {
        "Statement[2]"
    } else {
        "Statement[2]."
    };
    check(kind, &text, &format!("{place}{fault}"), remedy);
}

#[test]
fn statements() {
    #[rustfmt::skip]
    let table = [
        (Identity, r#""Action": "*", "Resource": "*""#, ": there is no Effect", "write \"Allow\" or \"Deny\""),
        (Identity, r#""Effect": "Allow", "Resource": "*""#, ": there is no Action", "say which actions the statement is about"),
        (Session, r#""Effect": "Allow", "Action": "*""#, ": there is no Resource", "say what the statement is about, \"*\" for everything"),
        (Resource, r#""Effect": "Allow", "Action": "*", "Resource": "*""#, ": there is no Principal", "say whom the statement is about, \"*\" for everybody"),
        (Identity, r#""Effect": "Permit""#, "Effect: 'Permit' is not an effect", "write \"Allow\" or \"Deny\""),
        (Identity, r#""Effect": "allow""#, "Effect: 'allow' is not an effect", "write \"Allow\" or \"Deny\""),
        (Identity, r#""Effect": true"#, "Effect: true or false where a text is needed", "write \"Allow\" or \"Deny\""),
        (Identity, r#""Effect": "Allow", "Effect": "Deny""#, "Effect: this key appears twice", "keep one of them"),
        (Identity, r#""effect": "Allow""#, "effect: there is no such element", STATEMENT),
        (Identity, r#""Actions": "*""#, "Actions: there is no such element", STATEMENT),
        (Identity, r#""Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*""#, "Sid: 'A' is the name of an earlier statement", "give each statement a name of its own, or none"),
        (Identity, r#""Sid": "a b""#, "Sid: 'a b' is not a name for a statement", "use letters and digits; in a resource-based policy up to 128 characters of any kind"),
        (Resource, r#""Sid": "a\nb""#, "Sid: 'a\\nb' is not a name for a statement", "use letters and digits; in a resource-based policy up to 128 characters of any kind"),
        (Identity, r#""Sid": 5"#, "Sid: a number where a text is needed", "write a text"),
        (Identity, r#""Action": "InvokeAgentRuntime""#, "Action: 'InvokeAgentRuntime' is not an action", ACTION),
        (Identity, r#""Action": """#, "Action: '' is not an action", ACTION),
        (Identity, r#""Action": "a:b:c""#, "Action: 'a:b:c' is not an action", ACTION),
        (Identity, r#""Action": ":b""#, "Action: ':b' is not an action", ACTION),
        (Identity, r#""Action": "s3:${aws:username}""#, "Action: 's3:${aws:username}' is not an action", ACTION),
        (Identity, r#""NotAction": ["s3:*", "s3 :x"]"#, "NotAction[1]: 's3 :x' is not an action", ACTION),
        (Identity, r#""Action": []"#, "Action: the list is empty", "write at least one value"),
        (Identity, r#""Action": [["*"]]"#, "Action[0]: a list where a text is needed", ACTION),
        (Identity, r#""Action": {"a": "b"}"#, "Action: an object where a text is needed", ACTION),
        (Identity, r#""Action": "*", "NotAction": "*""#, "NotAction: the statement has its opposite as well", "write Action or NotAction, not both"),
        (Identity, r#""NotResource": "*", "Resource": "*""#, "Resource: the statement has its opposite as well", "write Resource or NotResource, not both"),
        (Identity, r#""Resource": "runtime/x""#, "Resource: 'runtime/x' is not a resource", ARN),
        (Identity, r#""Resource": ["*", "arn:aws:s3"]"#, "Resource[1]: 'arn:aws:s3' is not a resource", ARN),
        (Identity, r#""Resource": "**""#, "Resource: '**' is not a resource", ARN),
        (Identity, r#""Resource": null"#, "Resource: null where a text is needed", ARN),
        (Identity, r#""Resource": "arn:aws:s3:::${aws:username""#, "Resource: '${aws:username' has no end", "close the variable with '}', or write '${$}' for a plain '$'"),
        (Identity, r#""Resource": "arn:aws:s3:::${username}""#, "Resource: '${username}' is not a variable", VARIABLE),
        (Identity, r#""Resource": "arn:aws:s3:::${}""#, "Resource: '${}' is not a variable", VARIABLE),
        (Identity, r#""Resource": "arn:aws:s3:::${a:b, none}""#, "Resource: the default none is not in single quotes", "write ${key, 'default'}"),
        (Identity, r#""Resource": "arn:aws:s3:::${a:b, 'x'y'}""#, "Resource: the default 'x'y' is not in single quotes", "write ${key, 'default'}"),
        (Resource, r#""Resource": "arn:aws:s3:::x*""#, "Resource: 'arn:aws:s3:::x*' is not the ARN of one resource", "write the exact ARN of the resource that the policy is attached to, or \"*\""),
        (Trust, r#""Resource": "*""#, "Resource: a role trust policy has no resources", "leave it out: the policy is about the role that it is attached to"),
        (Identity, r#""Principal": "*""#, "Principal: an identity-based policy and a session policy have no principals", "leave it out: the policy is about whom it is attached to"),
        (Session, r#""NotPrincipal": "*""#, "NotPrincipal: an identity-based policy and a session policy have no principals", "leave it out: the policy is about whom it is attached to"),
    ];
    for (kind, statement, fault, remedy) in table {
        check_third(kind, statement, fault, remedy);
    }
}

#[test]
fn principals() {
    #[rustfmt::skip]
    let table = [
        (r#""alice""#, ": 'alice' is not a principal", FORMS),
        (r#"{}"#, ": the object is empty", FORMS),
        (r#"["*"]"#, ": a list where an object is needed", FORMS),
        (r#"{"AWS": []}"#, ".AWS: the list is empty", "write at least one value"),
        (r#"{"AWS": 123456789012}"#, ".AWS: a number where a text is needed", "write a text or a list of texts"),
        (r#"{"AWS": "12345"}"#, ".AWS: '12345' is not a principal", AWS),
        (r#"{"AWS": ["*", "arn:aws:iam::123456789012:user/*"]}"#, ".AWS[1]: 'arn:aws:iam::123456789012:user/*' is not a principal", AWS),
        (r#"{"AWS": "arn:aws:iam::123456789012:user/"}"#, ".AWS: 'arn:aws:iam::123456789012:user/' is not a principal", AWS),
        (r#"{"AWS": "arn:aws:iam::123456789012:group/x"}"#, ".AWS: 'arn:aws:iam::123456789012:group/x' is not a principal", AWS),
        (r#"{"AWS": "arn:aws:iam::*:root"}"#, ".AWS: 'arn:aws:iam::*:root' is not a principal", AWS),
        (r#"{"AWS": "arn:aws:sts::123456789012:assumed-role/x"}"#, ".AWS: 'arn:aws:sts::123456789012:assumed-role/x' is not a principal", AWS),
        (r#"{"AWS": "AIDAEXAMPLE"}"#, ".AWS: 'AIDAEXAMPLE' is not a principal", AWS),
        (r#"{"Aws": "*"}"#, ".Aws: 'Aws' is not a kind of principal", FORMS),
        (r#"{"CanonicalUser": "x"}"#, ".CanonicalUser: 'CanonicalUser' is not a kind of principal", FORMS),
        (r#"{"AWS": "*", "AWS": "*"}"#, ".AWS: this key appears twice", "keep one of them"),
        (r#"{"Service": "*"}"#, ".Service: '*' is not a service", "write its name, such as bedrock-agentcore.amazonaws.com"),
        (r#"{"Federated": "a*"}"#, ".Federated: 'a*' is not an identity provider", "write its ARN, such as arn:aws:iam::123456789012:oidc-provider/idp.example.com, without wildcards"),
    ];
    for (principal, fault, remedy) in table {
        for key in ["Principal", "NotPrincipal"] {
            let statement = format!(r#""Effect": "Deny", "{key}": {principal}"#);
            check_third(Resource, &statement, &format!("{key}{fault}"), remedy);
            check_third(Trust, &statement, &format!("{key}{fault}"), remedy);
        }
    }
    check_third(
        Trust,
        r#""NotPrincipal": {"AWS": "*"}"#,
        "NotPrincipal: not '*' is nobody",
        "name who is excepted",
    );
    let both = r#""Principal": "*", "NotPrincipal": {"AWS": "123456789012"}"#;
    let remedy = "write Principal or NotPrincipal, not both";
    check_third(
        Trust,
        both,
        "NotPrincipal: the statement has its opposite as well",
        remedy,
    );
}

#[test]
fn conditions() {
    let operators = "use one of StringEquals, StringLike, ArnLike, IpAddress, Bool, DateLessThan, NumericEquals, Null, \
                     BinaryEquals and their kin, with ForAnyValue: or ForAllValues: before and IfExists behind";
    #[rustfmt::skip]
    let table = [
        (r#"[]"#, ": a list where an object is needed", SHAPE),
        (r#"{"StringMatches": {"a:b": "c"}}"#, ".StringMatches: there is no such operator", operators),
        (r#"{"ForSomeValues:StringEquals": {"a:b": "c"}}"#, ".ForSomeValues:StringEquals: there is no such operator", operators),
        (r#"{"NumericLike": {"a:b": "c"}}"#, ".NumericLike: there is no such operator", operators),
        (r#"{"IfExists": {"a:b": "c"}}"#, ".IfExists: there is no such operator", operators),
        (r#"{"NullIfExists": {"a:b": true}}"#, ".NullIfExists: Null asks itself whether the key exists", "write Null alone"),
        (r#"{"ForAnyValue:Null": {"a:b": true}}"#, ".ForAnyValue:Null: Null asks itself whether the key exists", "write Null alone"),
        (r#"{"StringLike": "a:b"}"#, ".StringLike: a text where an object is needed", SHAPE),
        (r#"{"StringLike": {}}"#, ".StringLike: the operator has no key", SHAPE),
        (r#"{"StringLike": {"SourceIp": "c"}}"#, ".StringLike.SourceIp: 'SourceIp' is not a condition key", "write PREFIX:NAME, such as aws:SourceIp"),
        (r#"{"StringLike": {"a:b": "c", "a:b": "d"}}"#, ".StringLike.a:b: this key appears twice", "keep one of them"),
        (r#"{"StringLike": {"a:b": "c", "A:B": "d"}}"#, ".StringLike.A:B: this key appears twice", "put its values together in a list"),
        (r#"{"Bool": {"a:b": true}, "bool": {"a:c": true}}"#, ".bool: this operator appears twice", "put its keys together"),
        (r#"{"StringLike": {"a:b": []}}"#, ".StringLike.a:b: the list is empty", "write at least one value"),
        (r#"{"StringLike": {"a:b": {"c": "d"}}}"#, ".StringLike.a:b: an object where a value is needed", "write a text or a list of texts"),
        (r#"{"StringLike": {"a:b": ["x", null]}}"#, ".StringLike.a:b[1]: null where a value is needed", "write a text or a list of texts"),
        (r#"{"StringLike": {"a:b": ["x", "${y}"]}}"#, ".StringLike.a:b[1]: '${y}' is not a variable", VARIABLE),
        (r#"{"StringEquals": {"a:b": "${*y}"}}"#, ".StringEquals.a:b: '${*y}' is not a variable", VARIABLE),
        (r#"{"Bool": {"a:b": "yes"}}"#, ".Bool.a:b: 'yes' does not fit the operator", "write true or false"),
        (r#"{"Bool": {"a:b": "${aws:x}"}}"#, ".Bool.a:b: '${aws:x}' does not fit the operator", "write true or false"),
        (r#"{"Null": {"a:b": 1}}"#, ".Null.a:b: '1' does not fit the operator", "write true or false"),
        (r#"{"IpAddress": {"a:b": ["10.0.0.0/8", "10.0.0.0/40"]}}"#, ".IpAddress.a:b[1]: '10.0.0.0/40' does not fit the operator", RANGE),
        (r#"{"NotIpAddress": {"a:b": "localhost"}}"#, ".NotIpAddress.a:b: 'localhost' does not fit the operator", RANGE),
        (r#"{"DateLessThan": {"a:b": "tomorrow"}}"#, ".DateLessThan.a:b: 'tomorrow' does not fit the operator", TIME),
        (r#"{"DateLessThan": {"a:b": "2026"}}"#, ".DateLessThan.a:b: '2026' does not fit the operator", TIME),
        (r#"{"NumericEquals": {"a:b": "many"}}"#, ".NumericEquals.a:b: 'many' does not fit the operator", "write a decimal number"),
        (r#"{"BinaryEquals": {"a:b": "?"}}"#, ".BinaryEquals.a:b: '?' does not fit the operator", "write base64 with padding"),
        (r#"{"ArnLike": {"a:b": "arn:aws:s3"}}"#, ".ArnLike.a:b: 'arn:aws:s3' is not an ARN", "write its six parts, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, each with wildcards if need be, or '*'"),
    ];
    for (condition, fault, remedy) in table {
        let statement = format!(r#""Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {condition}"#);
        check_third(Identity, &statement, &format!("Condition{fault}"), remedy);
    }
}
