//! Credential helpers: `docker-credential-NAME get|store|erase`, one question on standard input, one answer on standard output.
//!
//! By hand: `echo https://index.docker.io/v1/ | docker-credential-pass get` prints `{"ServerURL": …, "Username": …, "Secret": …}`. Where it has nothing, it
//! says "credentials not found" and exits with 1.
//!
//! What goes wrong: the helper runs as we do, often as root. So its name is a plain word, only absolute directories of `PATH` are searched, it
//! gets the variables of a table and no others, `/` as its directory, and a minute. What it prints is shown only where it refuses, and not where it may
//! be its answer or our question. Its standard error is for a person at a terminal: elsewhere it would stand in somebody's log.

use super::{Credentials, Secret, TOKEN_USER, from_pair};
use crate::error;
use crate::error::{Error, Result, io_words};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As long as a helper may take: some ask a person.
const PATIENCE: Duration = Duration::from_secs(60);
/// As much as a helper may say, in bytes.
const LARGEST: usize = 1 << 20;

/// The variables that a helper gets; what ends with `*` is the beginning of their names.
const PASSED: [&str; 24] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_*",
    "TERM",
    "TMPDIR",
    "TZ",
    "XDG_*",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "GPG_TTY",
    "GNUPGHOME",
    "PASSWORD_STORE_*",
    "DOCKER_CONFIG",
    "AWS_*",
    "AZURE_*",
    "GOOGLE_*",
    "CLOUDSDK_*",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
];

/// The environment, as names and values.
type Environment = [(String, OsString)];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Was there something to erase?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// Yes, and it is gone.
    Yes,
    /// No.
    Nothing,
}

/// What the helper has for this server.
pub fn get(name: &str, server: &str, environment: &Environment) -> Result<Option<Credentials>> {
    let Some(said) = run(name, "get", server.as_bytes(), environment)? else { return Ok(None) };
    let at = |e: Error| e.at(format!("docker-credential-{name} get"));
    let answer: Answer = serde_json::from_slice(&said).map_err(|_| at(error!("its answer is not understood")))?;
    match answer.secret.is_empty() {
        true => Ok(None),
        false => from_pair(answer.username, answer.secret).map(Some).map_err(at),
    }
}

/// Gives credentials to the helper.
pub fn store(name: &str, server: &str, credentials: &Credentials, environment: &Environment) -> Result<()> {
    let (user, Secret(secret)) = match credentials {
        Credentials::Password(user, secret) => (user.as_str(), secret),
        Credentials::Identity(secret) => (TOKEN_USER, secret),
    };
    let all = serde_json::json!({"ServerURL": server, "Username": user, "Secret": secret});
    run(name, "store", all.to_string().as_bytes(), environment).map(drop).map_err(|e| {
        let repeats = !secret.is_empty() && e.cause.contains(secret.as_str());
        if repeats { error!("docker-credential-{name} store: it fails, and repeats the secret") } else { e }
    })
}

/// Lets the helper forget.
pub fn erase(name: &str, server: &str, environment: &Environment) -> Result<Erased> {
    // Several helpers succeed also where there was nothing.
    if run(name, "get", server.as_bytes(), environment)?.is_none() {
        return Ok(Erased::Nothing);
    }
    Ok(run(name, "erase", server.as_bytes(), environment)?.map_or(Erased::Nothing, |_| Erased::Yes))
}

/// Runs a helper. `None`: it has nothing for this server.
fn run(name: &str, verb: &str, input: &[u8], environment: &Environment) -> Result<Option<Vec<u8>>> {
    let program = format!("docker-credential-{name}");
    let at = |e: Error| e.at(format!("{program} {verb}"));
    let path = find(&program, name, environment)?;
    let mut child = Command::new(path)
        .arg(verb)
        .env_clear()
        .envs(environment.iter().filter(|(name, _)| is_passed(name)).map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(if std::io::stderr().is_terminal() { Stdio::inherit() } else { Stdio::null() })
        .spawn()
        .map_err(|e| at(error!("{}", io_words(&e))))?;
    let said = converse(&mut child, input);
    if said.is_err() {
        let _ = child.kill();
    }
    let ended = child.wait().map_err(|e| at(error!("{}", io_words(&e))))?;
    let said = said.map_err(at)?;
    if ended.success() {
        return Ok(Some(said));
    }
    let said = String::from_utf8_lossy(&said);
    if said.contains("credentials not found") || said.contains("no credentials") {
        return Ok(None);
    }
    // Some answer and fail, some repeat the question.
    if said.contains('{') || said.contains("Secret") {
        return Err(at(error!("{ended}")).hint(format!("by hand: `echo SERVER | {program} get`")));
    }
    let line: String = said.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    Err(at(error!("{ended}: {line}")))
}

/// Says the question and takes the answer, within a minute.
fn converse(child: &mut Child, input: &[u8]) -> Result<Vec<u8>> {
    let words = |e: std::io::Error| error!("{}", io_words(&e));
    if let Some(mut stdin) = child.stdin.take() {
        // A question fits into a pipe. A helper that does not want it may have closed its end.
        let _ = stdin.write_all(input);
    }
    let Some(mut stdout) = child.stdout.take() else { return Ok(Vec::new()) };
    let (mut said, begun, mut piece) = (Vec::new(), Instant::now(), [0; 4096]);
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed()).as_millis() as u16;
        let mut one = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut one, PollTimeout::from(left)) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(words(errno.into())),
            Ok(0) => return Err(error!("no answer within {} s", PATIENCE.as_secs())),
            Ok(_) => {}
        }
        match stdout.read(&mut piece).map_err(words)? {
            0 => return Ok(said),
            more => said.extend_from_slice(&piece[..more]),
        }
        if said.len() > LARGEST {
            return Err(error!("its answer has more than {LARGEST} bytes"));
        }
    }
}

fn find(program: &str, name: &str, environment: &Environment) -> Result<PathBuf> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(error!("config.json: {name:?} is not the name of a credential helper"));
    }
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone()).unwrap_or_default();
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let mut places = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).map(|d| d.join(program));
    places.find(is_program).ok_or_else(|| {
        error!("{program}, which config.json names, is not in PATH").hint("install it, or take it out of config.json")
    })
}

fn is_passed(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    PASSED.iter().any(|passed| match passed.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        // Proxies are also written in lower case.
        None => name == *passed || passed.ends_with("_PROXY") && upper == *passed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A helper that keeps one server's credentials in a file beside it.
    fn helper(dir: &Path, body: &str) -> Vec<(String, OsString)> {
        let path = dir.join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        vec![("PATH".into(), format!("relative:{}:/bin:/usr/bin", dir.display()).into()), ("EVIL".into(), "1".into())]
    }

    #[test]
    fn a_helper_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        let environment = helper(
            dir.path(),
            &format!(
                r#"[ -z "$EVIL" ] && [ "$PWD" = / ] || exit 3
                case $1 in
                store) cat >{0};;
                get) read -r server; [ "$server" ] && cat {0} 2>/dev/null || {{ echo "credentials not found in native keychain"; exit 1; }};;
                erase) rm {0};;
                esac"#,
                kept.display()
            ),
        );
        let credentials = Credentials::Password("u".into(), Secret("p\"q".into()));
        assert_eq!(get("test", "quay.io", &environment).unwrap(), None);
        store("test", "quay.io\n", &credentials, &environment).unwrap();
        assert_eq!(get("test", "quay.io\n", &environment).unwrap(), Some(credentials));
        assert_eq!(erase("test", "quay.io\n", &environment).unwrap(), Erased::Yes);
        assert_eq!(erase("test", "quay.io\n", &environment).unwrap(), Erased::Nothing);
    }

    #[test]
    fn what_a_helper_does_wrong_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let environment = helper(dir.path(), "echo the keyring is locked; exit 2");
        let e = get("test", "quay.io", &environment).unwrap_err().to_string();
        assert!(e.contains("docker-credential-test get: exit status: 2: the keyring is locked"), "{e}");
        let environment = helper(dir.path(), "echo '{\"Secret\": \"s3cret\"'");
        let e = get("test", "quay.io", &environment).unwrap_err().to_string();
        assert!(e.contains("not understood") && !e.contains("s3cret"), "{e}");
        let environment = helper(dir.path(), "exec head -c 2000000 /dev/zero");
        assert!(get("test", "quay.io", &environment).unwrap_err().to_string().contains("more than"));
        assert!(get("../x", "quay.io", &environment).unwrap_err().to_string().contains("not the name"));
        assert!(get("absent", "quay.io", &environment).unwrap_err().to_string().contains("not in PATH"));
    }
}
