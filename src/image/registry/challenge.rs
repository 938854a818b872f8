//! `WWW-Authenticate`: what a registry wants to see before it answers.
//!
//! `Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull"` sends us to a token server,
//! `Basic realm="…"` wants name and password with every request (RFC 9110, 11.6.1; distribution-spec's token protocol).
//! By hand: `curl -i https://registry-1.docker.io/v2/`.
//!
//! What goes wrong: commas separate parameters as well as challenges, and stand within quoted texts.

/// What would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token from this server.
    Bearer {
        /// Its address, as it was written.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it allows.
        scope: Option<String>,
    },
}

/// The challenges of one header that we know; a Bearer without a realm is none.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let (word, after) = rest.split_at(end);
        match after.trim_start().strip_prefix('=') {
            // A parameter.
            Some(after) => {
                let (value, after) = value(after.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            // A scheme.
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| known(&scheme, &parameters)).collect()
}

/// A value, quoted or not, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

fn known(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn headers_of_real_registries() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (r#"bearer realm=https://a/t , Service = "x""#, vec![bearer("https://a/t", Some("x"), None)]),
            (
                r#"Negotiate, Basic realm="a,b", Bearer realm="c\"d""#,
                vec![Challenge::Basic, bearer("c\"d", None, None)],
            ),
            (r#"Bearer service="x""#, vec![]),
            (r#"Bearer realm="unended"#, vec![bearer("unended", None, None)]),
            ("", vec![]),
            ("=,=\"", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_comes_to_an_end(header in "[a-zB \\t,=\"\\\\]{0,60}") {
            parse(&header);
        }
    }
}
