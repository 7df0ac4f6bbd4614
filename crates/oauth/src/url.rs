//! The URLs of providers: `https`, or `http` to this machine itself where that is allowed.

use crate::reach::Reach;
use http::Uri;
use http::uri::PathAndQuery;
use std::fmt;
use std::net::IpAddr;

/// Longer URLs are refused.
const MAX_BYTES: usize = 2048;

/// Where a document of a provider is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) https: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As the `Host` header has it.
    pub(crate) authority: String,
    pub(crate) target: PathAndQuery,
}

impl Url {
    /// Reads a URL. The error says what is wrong with it and continues "discoveryUrl …".
    pub(crate) fn parse(text: &str, reach: Reach) -> Result<Self, String> {
        let shape = "must be a URL such as https://idp.example.com/.well-known/openid-configuration";
        if text.len() > MAX_BYTES {
            return Err(format!("may have at most {MAX_BYTES} characters"));
        }
        if text.contains('#') {
            return Err("may not have a fragment".to_owned());
        }
        let uri: Uri = text.parse().map_err(|_| shape.to_owned())?;
        let (Some(scheme), Some(authority), Some(target)) = (uri.scheme_str(), uri.authority(), uri.path_and_query())
        else {
            return Err(shape.to_owned());
        };
        if authority.as_str().contains('@') {
            return Err("may not have a user or a password".to_owned());
        }
        let whole_host = authority.host();
        // The library answers "no port" for one that is out of range.
        let port = match authority.as_str().strip_prefix(whole_host) {
            Some("") => None,
            Some(rest) => Some(rest.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(shape)?),
            None => return Err(shape.to_owned()),
        };
        let host = whole_host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(shape.to_owned());
        }
        let https = match scheme {
            "https" => true,
            "http" if reach.loopback && names_this_machine(host) => false,
            "http" => {
                return Err("must begin with https://: keys that are fetched without TLS prove nothing".to_owned());
            }
            _ => return Err(shape.to_owned()),
        };
        Ok(Self {
            https,
            host: host.to_owned(),
            port: port.unwrap_or(if https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            target: target.clone(),
        })
    }

    /// Refuses what the text alone shows to be out of reach. Names are checked when they are looked up.
    pub(crate) fn check_literal(&self, reach: Reach) -> Result<(), String> {
        let refused = match self.host.parse::<IpAddr>() {
            Ok(address) => reach.permits(address).err(),
            Err(_) if names_this_machine(&self.host) && !reach.loopback => Some("this machine itself"),
            Err(_) => None,
        };
        match refused {
            None => Ok(()),
            Some(kind) => Err(format!(
                "names {kind}, which this server's configuration does not let identity providers have: use a public \
                 address, or ask the operator to set `allow_private_addresses` or `allow_loopback`"
            )),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.target)
    }
}

fn names_this_machine(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_loopback();
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_providers_url() {
        let open = Reach {
            private: true,
            loopback: true,
        };
        for (text, public, everywhere) in [
            ("https://idp.example.com/x", true, true),
            ("https://idp.example.com:8443/x", true, true),
            ("https://8.8.8.8/x", true, true),
            ("https://[2606:4700::1111]/x", true, true),
            ("https://10.0.0.1/x", false, true),
            ("https://[fd12::1]/x", false, true),
            ("https://127.0.0.1/x", false, true),
            ("https://[::1]:8443/x", false, true),
            ("https://[::ffff:10.0.0.1]/x", false, true),
            ("https://localhost/x", false, true),
            ("https://LOCALHOST./x", false, true),
            ("https://a.localhost/x", false, true),
            ("http://127.0.0.1:9000/x", false, true),
            ("http://localhost:9000/x", false, true),
            ("http://[::1]:9000/x", false, true),
            ("http://idp.example.com/x", false, false),
            ("http://10.0.0.1/x", false, false),
            ("https://169.254.169.254/x", false, false),
            ("https://[fe80::1]/x", false, false),
            ("https://user@idp.example.com/x", false, false),
            ("https://user:pw@idp.example.com/x", false, false),
            ("https://idp.example.com/x#y", false, false),
            ("https://idp.example.com:/x", false, false),
            ("https://idp.example.com:99999/x", false, false),
            ("https:///x", false, false),
            ("https://idp example/x", false, false),
            ("ftp://idp.example.com/x", false, false),
            ("idp.example.com/x", false, false),
            ("/x", false, false),
            ("*", false, false),
            ("", false, false),
            (&format!("https://idp.example.com/{}", "x".repeat(2048)), false, false),
        ] {
            for (reach, good) in [(Reach::default(), public), (open, everywhere)] {
                let read = Url::parse(text, reach).and_then(|url| url.check_literal(reach));
                assert_eq!(read.is_ok(), good, "{text} {reach:?}: {read:?}");
            }
        }
    }
}
