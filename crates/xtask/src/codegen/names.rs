//! From the models' names to Rust's.

/// Names that every Rust file uses; a shape of this name would hide them.
const PRELUDE: &[&str] = &[
    "Box", "Err", "None", "Ok", "Option", "Result", "Self", "Some", "String", "Vec", "BTreeMap", "Blob",
];

/// Strict and reserved words that a member could be called.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move",
    "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// `agentRuntimeArn` -> `agent_runtime_arn`; keywords become raw identifiers.
pub(crate) fn field(name: &str) -> String {
    let field = words(name).join("_");
    match field.as_str() {
        "self" | "super" | "crate" => field + "_",
        keyword if KEYWORDS.contains(&keyword) => format!("r#{field}"),
        _ => field,
    }
}

/// `CreateAgentRuntime` -> `CREATE_AGENT_RUNTIME`.
pub(crate) fn constant(name: &str) -> String {
    words(name).join("_").to_uppercase()
}

/// A shape's name, which is its type's name as well.
pub(crate) fn type_name(name: &str) -> String {
    let mut chars = name.chars();
    let capital: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(chars)
        .collect();
    if PRELUDE.contains(&capital.as_str()) {
        capital + "Shape"
    } else {
        capital
    }
}

/// `PYTHON_3_11` -> `Python3_11`, `codeConfiguration` -> `CodeConfiguration`.
pub(crate) fn variant(name: &str) -> String {
    let mut out = String::new();
    for word in words(name) {
        let starts_with_digit = word.starts_with(|c: char| c.is_ascii_digit());
        if starts_with_digit && (out.is_empty() || out.ends_with(|c: char| c.is_ascii_digit())) {
            // `V` because a name must not start with a digit, `_` to tell 3_11 from 31_1.
            out.push(if out.is_empty() { 'V' } else { '_' });
        }
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.extend(chars);
    }
    if out == "Self" { "SelfValue".to_owned() } else { out }
}

/// The words of a name, in lower case: split at anything that is not alphanumeric, before a capital that follows a
/// small letter, and before the last capital of several (`JWTAuthorizer`). Digits belong to the word before them.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name
        .replace("MiB", "Mib")
        .replace("GiB", "Gib")
        .replace("KiB", "Kib")
        .chars()
        .collect();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            continue;
        }
        let before = i.checked_sub(1).and_then(|i| chars.get(i));
        let after = chars.get(i + 1);
        let starts = c.is_ascii_uppercase()
            && (before.is_some_and(char::is_ascii_lowercase)
                || (before.is_some_and(char::is_ascii_digit) && after.is_some_and(char::is_ascii_lowercase))
                || (before.is_some_and(char::is_ascii_uppercase) && after.is_some_and(char::is_ascii_lowercase)));
        if starts {
            words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
        }
        word.push(c.to_ascii_lowercase());
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_rust() {
        let fields = [
            ("agentRuntimeArn", "agent_runtime_arn"),
            ("customJWTAuthorizer", "custom_jwt_authorizer"),
            ("s3", "s3"),
            ("s3FilesAccessPoint", "s3_files_access_point"),
            ("minimumMemoryInMiB", "minimum_memory_in_mib"),
            ("requireMMDSV2", "require_mmdsv2"),
            ("type", "r#type"),
            ("self", "self_"),
        ];
        for (name, want) in fields {
            assert_eq!(field(name), want, "{name}");
        }
        let variants = [
            ("PYTHON_3_11", "Python3_11"),
            ("NODE_22", "Node22"),
            ("READY", "Ready"),
            ("A2A", "A2a"),
            ("capacity-reservations-only", "CapacityReservationsOnly"),
            ("3D", "V3d"),
            ("codeConfiguration", "CodeConfiguration"),
            ("CannotParse", "CannotParse"),
        ];
        for (name, want) in variants {
            assert_eq!(variant(name), want, "{name}");
        }
        assert_eq!(constant("GetAgentRuntimeEndpoint"), "GET_AGENT_RUNTIME_ENDPOINT");
        assert_eq!(type_name("entryPoint"), "EntryPoint");
        assert_eq!(type_name("String"), "StringShape");
    }
}
