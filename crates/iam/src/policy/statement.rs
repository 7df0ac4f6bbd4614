//! From the document's tree to statements: which elements a policy of a kind has, and what each may say.

use super::condition;
use super::document::{Actions, Effect, Kind, Resources, Statement};
use super::glob::Glob;
use super::invalid::{At, Invalid, echo};
use super::json::Node;
use super::principals::Principals;
use super::template::Pattern;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

const DOCUMENT: &str = "write {\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": …, \"Action\": …}]}";
const STATEMENT: &str =
    "a statement has Sid, Effect, Action or NotAction, Resource or NotResource, Principal or NotPrincipal, Condition";
const VERSION: &str = "write \"2012-10-17\", or \"2008-10-17\" for a policy without variables";

/// Reads a whole document.
pub(super) fn document(kind: Kind, node: &Node) -> Result<Box<[Statement]>, Invalid> {
    let at = At::ROOT;
    let (mut variables, mut statement) = (false, None);
    for (key, node) in node.object(&at, DOCUMENT)? {
        let at = at.key(key);
        match key.as_str() {
            "Version" => match node.text(&at, VERSION)? {
                "2012-10-17" => variables = true,
                "2008-10-17" => {}
                other => return Err(at.fault(format!("'{}' is not a version", echo(other)), VERSION)),
            },
            "Id" => drop(node.text(&at, "write a text")?),
            "Statement" => statement = Some(node),
            _ => return Err(at.fault("there is no such element", "a policy has Version, Id and Statement")),
        }
    }
    let Some(node) = statement else {
        return Err(at.fault("there is no Statement", DOCUMENT));
    };
    let reader = Reader { kind, variables };
    let at = at.key("Statement");
    let mut sids = HashSet::new();
    node.each(&at, |node, at| {
        let statement = reader.statement(node, at)?;
        match &statement.sid {
            Some(sid) if !sids.insert(sid.clone()) => Err(at.key("Sid").fault(
                format!("'{}' is the name of an earlier statement", echo(sid)),
                "give each statement a name of its own, or none",
            )),
            _ => Ok(statement),
        }
    })
}

struct Reader {
    kind: Kind,
    /// Whether `${…}` is a variable.
    variables: bool,
}

impl Reader {
    fn statement(&self, node: &Node, at: &At<'_>) -> Result<Statement, Invalid> {
        let (mut sid, mut effect, mut principals) = (None, None, None);
        let (mut actions, mut resources, mut conditions) = (None, None, None);
        for (key, node) in node.object(at, STATEMENT)? {
            let at = at.key(key);
            let inverted = key.starts_with("Not");
            match key.as_str() {
                "Sid" => sid = self.sid(node, &at)?,
                "Effect" => effect = Some(self.effect(node, &at)?),
                "Principal" | "NotPrincipal" => {
                    self.permit_principal(&at)?;
                    let read = Principals::parse(node, inverted, &at)?;
                    once(&mut principals, read, &at, "Principal or NotPrincipal")?;
                }
                "Action" | "NotAction" => {
                    let patterns = node.each(&at, |node, at| self.action(node, at))?;
                    once(&mut actions, Actions { inverted, patterns }, &at, "Action or NotAction")?;
                }
                "Resource" | "NotResource" => {
                    self.permit_resource(&at)?;
                    let patterns = node.each(&at, |node, at| self.resource(node, at))?;
                    once(
                        &mut resources,
                        Resources { inverted, patterns },
                        &at,
                        "Resource or NotResource",
                    )?;
                }
                "Condition" => conditions = Some(condition::parse(node, self.variables, &at)?),
                _ => return Err(at.fault("there is no such element", STATEMENT)),
            }
        }
        let missing = |what: &str, remedy: &'static str| at.fault(format!("there is no {what}"), remedy);
        if self.has_principals() && principals.is_none() {
            return Err(missing(
                "Principal",
                "say whom the statement is about, \"*\" for everybody",
            ));
        }
        if self.kind != Kind::Trust && resources.is_none() {
            return Err(missing(
                "Resource",
                "say what the statement is about, \"*\" for everything",
            ));
        }
        Ok(Statement {
            sid,
            effect: effect.ok_or_else(|| missing("Effect", "write \"Allow\" or \"Deny\""))?,
            principals,
            actions: actions.ok_or_else(|| missing("Action", "say which actions the statement is about"))?,
            resources,
            conditions: conditions.unwrap_or_default(),
        })
    }

    fn has_principals(&self) -> bool {
        matches!(self.kind, Kind::Resource | Kind::Trust)
    }

    fn permit_principal(&self, at: &At<'_>) -> Result<(), Invalid> {
        if self.has_principals() {
            return Ok(());
        }
        let problem = "an identity-based policy and a session policy have no principals";
        Err(at.fault(problem, "leave it out: the policy is about whom it is attached to"))
    }

    fn permit_resource(&self, at: &At<'_>) -> Result<(), Invalid> {
        if self.kind != Kind::Trust {
            return Ok(());
        }
        let problem = "a role trust policy has no resources";
        Err(at.fault(
            problem,
            "leave it out: the policy is about the role that it is attached to",
        ))
    }

    fn sid(&self, node: &Node, at: &At<'_>) -> Result<Option<Arc<str>>, Invalid> {
        let text = node.text(at, "write a text")?;
        let ok = match self.kind {
            Kind::Resource => text.chars().count() <= 128 && !text.chars().any(char::is_control),
            _ => text.bytes().all(|b| b.is_ascii_alphanumeric()),
        };
        if !ok {
            return Err(at.fault(
                format!("'{}' is not a name for a statement", echo(text)),
                "use letters and digits; in a resource-based policy up to 128 characters of any kind",
            ));
        }
        Ok(Some(text).filter(|text| !text.is_empty()).map(Arc::from))
    }

    fn effect(&self, node: &Node, at: &At<'_>) -> Result<Effect, Invalid> {
        let remedy = "write \"Allow\" or \"Deny\"";
        match node.text(at, remedy)? {
            "Allow" => Ok(Effect::Allow),
            "Deny" => Ok(Effect::Deny),
            other => Err(at.fault(format!("'{}' is not an effect", echo(other)), remedy)),
        }
    }

    fn action(&self, node: &Node, at: &At<'_>) -> Result<Glob, Invalid> {
        let remedy = "write SERVICE:NAME, such as bedrock-agentcore:InvokeAgentRuntime, or \"*\"";
        let text = node.text(at, remedy)?;
        let name = |text: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"-_*?".contains(&b);
            !text.is_empty() && text.bytes().all(known)
        };
        let parts = text.split_once(':');
        if text != "*" && !parts.is_some_and(|(service, action)| name(service) && name(action)) {
            return Err(at.fault(format!("'{}' is not an action", echo(text)), remedy));
        }
        let lower = text.to_ascii_lowercase();
        // AWS's older page about AgentCore's resource policies writes `bedrock:`. Elsewhere that is another service.
        let alias = lower.strip_prefix("bedrock:").filter(|_| self.kind == Kind::Resource);
        Ok(match alias {
            Some(action) => Glob::parse(&format!("bedrock-agentcore:{action}")),
            None => Glob::parse(&lower),
        })
    }

    fn resource(&self, node: &Node, at: &At<'_>) -> Result<Pattern, Invalid> {
        let remedy = "write an ARN, arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE, or \"*\"";
        let text = node.text(at, remedy)?;
        if text != "*" && (!text.starts_with("arn:") || text.matches(':').count() < 5) {
            return Err(at.fault(format!("'{}' is not a resource", echo(text)), remedy));
        }
        if self.kind == Kind::Resource && text != "*" && text.contains(['*', '?', '$']) {
            return Err(at.fault(
                format!("'{}' is not the ARN of one resource", echo(text)),
                "write the exact ARN of the resource that the policy is attached to, or \"*\"",
            ));
        }
        Pattern::parse(&canonical(text), self.variables, at)
    }
}

/// Some of AWS's pages write the ARN of an endpoint with `/endpoint/`, others with `/runtime-endpoint/`; calls have
/// the latter.
fn canonical(resource: &str) -> Cow<'_, str> {
    let mut parts = resource.splitn(6, ':');
    let service = parts.nth(2);
    let path = parts.nth(2).filter(|_| service == Some("bedrock-agentcore"));
    match path.filter(|path| path.starts_with("runtime/") && path.matches("/endpoint/").count() == 1) {
        Some(path) => {
            let head = resource.strip_suffix(path).unwrap_or_default();
            Cow::Owned(format!("{head}{}", path.replace("/endpoint/", "/runtime-endpoint/")))
        }
        None => Cow::Borrowed(resource),
    }
}

fn once<T>(place: &mut Option<T>, value: T, at: &At<'_>, pair: &'static str) -> Result<(), Invalid> {
    if place.replace(value).is_some() {
        return Err(at.fault(
            "the statement has its opposite as well",
            format!("write {pair}, not both"),
        ));
    }
    Ok(())
}
