//! The documents of the query protocol.
//!
//! Invariant: what is not ours goes through [`escape`].

use iam::sts::Temporary;

use super::fault::Fault;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The inside of a result, as it grows.
#[derive(Debug, Default)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    pub(super) fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with a text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(text, &mut self.0);
        self.close(name);
    }

    /// Credentials, as every action that issues some answers them.
    pub(super) fn credentials(&mut self, temporary: &Temporary) {
        self.open("Credentials");
        self.text("AccessKeyId", &temporary.access_key_id);
        self.text("SecretAccessKey", &temporary.secret);
        self.text("SessionToken", &temporary.session_token);
        self.text(
            "Expiration",
            &temporary.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
        self.close("Credentials");
    }
}

/// The answer of an action.
pub(super) fn response(action: &str, result: Xml, request_id: &str) -> String {
    let Xml(result) = result;
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
}

/// A refusal.
pub(super) fn error(fault: &Fault, request_id: &str) -> String {
    let kind = if fault.status().is_server_error() {
        "Receiver"
    } else {
        "Sender"
    };
    let mut inside = Xml::default();
    inside.text("Type", kind);
    inside.text("Code", fault.code);
    inside.text("Message", &fault.message);
    let Xml(inside) = inside;
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error>{inside}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
}

/// Text between tags. Characters that XML has no way to write are left out.
fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '\n' | '\t' | ' '.. => into.push(character),
            _ => {}
        }
    }
}
