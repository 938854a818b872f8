//! What strace wrote, call by call.

use std::collections::BTreeMap;

/// One system call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name that all architectures have: `openat` for the older `open`.
    pub name: String,
    /// Between the parentheses.
    pub args: String,
    /// The strings among the arguments.
    pub strings: Vec<String>,
    /// The whole line without the process.
    pub text: String,
    /// The number of the line on which it begins.
    pub begun: usize,
    paths: Vec<String>,
}

/// x86-64 has both the older call and the one that took its place, and libc uses the older; glibc one that came after. A call that strace does not
/// know has a number.
const OLDER: [(&str, &str); 18] = [
    ("syscall_0x1d3", "open_tree_attr"),
    ("open", "openat"),
    ("stat", "newfstatat"),
    ("lstat", "newfstatat"),
    ("mkdir", "mkdirat"),
    ("rmdir", "unlinkat"),
    ("unlink", "unlinkat"),
    ("rename", "renameat"),
    ("readlink", "readlinkat"),
    ("symlink", "symlinkat"),
    ("mknod", "mknodat"),
    ("chown", "fchownat"),
    ("access", "faccessat"),
    ("faccessat2", "faccessat"),
    ("dup2", "dup3"),
    ("poll", "ppoll"),
    ("fork", "clone"),
    ("vfork", "clone"),
];

/// The calls of each process, in order, by pid. `strace -f -qq -y -s 4096`.
pub fn read(text: &str) -> BTreeMap<i32, Vec<Call>> {
    let mut calls: BTreeMap<i32, Vec<Call>> = BTreeMap::new();
    let mut unfinished: BTreeMap<i32, (usize, String)> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let Ok(pid) = pid.parse::<i32>() else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("---") || rest.starts_with("+++") {
            continue;
        }
        if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(pid, (number, begin.to_owned()));
            continue;
        }
        let (begun, whole) = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, end)) => {
                let (begun, begin) = unfinished.remove(&pid).unwrap_or_default();
                (begun, begin + end)
            }
            None => (number, rest.to_owned()),
        };
        calls.entry(pid).or_default().extend(call(&whole, begun));
    }
    // A call that never ended, such as exit.
    for (pid, (begun, begin)) in unfinished {
        calls.entry(pid).or_default().extend(call(&begin, begun));
    }
    calls
}

fn call(text: &str, begun: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let name = OLDER.iter().find(|(older, _)| *older == name).map_or(name, |(_, newer)| newer);
    // After a signal the kernel begins such a call anew, and strace writes it again.
    if ["ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND"].iter().any(|again| rest.contains(&format!("= ? {again}"))) {
        return None;
    }
    // The last `)` before ` = RESULT`: an errno has its words in parentheses too.
    let end = rest.rmatch_indices(')').find(|(at, _)| rest[at + 1..].trim_start().starts_with("= "));
    let args = end.map_or(rest, |(at, _)| &rest[..at]);
    let (strings, paths) = strings_and_paths(args);
    // glibc asks for what is open by an empty name.
    let name = if name == "newfstatat" && strings == [""] { "fstat" } else { name };
    Some(Call { name: name.to_owned(), args: args.to_owned(), strings, text: text.to_owned(), begun, paths })
}

/// Strings in quotes; and the paths that descriptors stand for, `5</sys/fs/cgroup>`, each also with the string that follows.
fn strings_and_paths(args: &str) -> (Vec<String>, Vec<String>) {
    let (mut strings, mut paths) = (Vec::new(), Vec::new());
    let mut directory: Option<String> = None;
    let mut rest = args;
    while let Some(at) = rest.find(['"', '<']) {
        let is_string = rest.as_bytes()[at] == b'"';
        let inner = &rest[at + 1..];
        let end = if is_string { string_end(inner) } else { path_end(inner) };
        let Some(end) = end else { break };
        let text = unescape(&inner[..end]);
        if is_string {
            paths.extend(directory.take().map(|dir| format!("{}/{text}", dir.trim_end_matches('/'))));
            strings.push(text);
        } else if rest[..at].ends_with(|c: char| c.is_ascii_digit() || c == 'D') {
            paths.push(text.clone());
            directory = Some(text);
        }
        rest = &inner[end + 1..];
    }
    (strings, paths)
}

fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices()
        .find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        })
        .map(|(at, _)| at)
}

fn path_end(text: &str) -> Option<usize> {
    text.find('>')
}

/// Undoes the escapes of both C and Rust.
pub fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let digits = rest.bytes().take(3).take_while(|b| (b'0'..b'8').contains(b)).count();
        if digits > 0 {
            out.push(u8::from_str_radix(&rest[..digits], 8).unwrap_or(b'?'));
            rest = &rest[digits..];
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        let plain = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            other => other,
        };
        out.extend_from_slice(plain.to_string().as_bytes());
        rest = &rest[c.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

impl Call {
    /// Whether it names this: as a string, or a path by the descriptor of its directory or its own.
    ///
    /// In the text of explain `PID` and the `N` of `/fd/N` stand for a number, and `$PATH` for the directories in it.
    pub fn names(&self, wanted: &str) -> bool {
        if let Some(program) = wanted.strip_prefix("$PATH/") {
            return self.strings.iter().any(|s| s.rsplit_once('/').is_some_and(|(_, name)| name == program));
        }
        let number = if wanted.ends_with("/fd/N") { "N" } else { "PID" };
        if let Some((before, after)) = wanted.split_once(number) {
            let fits = |s: &String| {
                let number = s.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
            };
            return self.strings.iter().any(fits);
        }
        let below = |path: &String| {
            let before = path.strip_suffix(wanted);
            before.is_some_and(|before| wanted.starts_with('/') || before.is_empty() || before.ends_with('/'))
        };
        self.strings.iter().any(|string| string == wanted) || self.paths.iter().any(below)
    }

    /// Whether a flag or a number is among the arguments; the flag's prefix may be missing: `NEWPID`.
    pub fn has_word(&self, wanted: &str) -> bool {
        let wanted = if wanted == "RLIM_INFINITY" { "RLIM64_INFINITY" } else { wanted };
        let mut words = self.args.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.any(|word| word == wanted || word.strip_suffix(wanted).is_some_and(|prefix| prefix.ends_with('_')))
    }
}

mod tests {
    use super::read;

    #[test]
    fn what_a_call_returns_is_no_argument() {
        let text = "7 open(\"/a\", O_RDONLY) = 3</b>\n7 setsid()              = 1\n7 stat(\"/c)\", 0x1) = -1 ENOENT (No such = file)\n\
                    7 poll([{fd=3}], 1, -1 <unfinished ...>\n8 getpid() = 8\n7 <... poll resumed>) = ? ERESTARTNOHAND (x)\n";
        let calls = read(text);
        let seen: Vec<(&str, &str)> = calls[&7].iter().map(|call| (&*call.name, &*call.args)).collect();
        assert_eq!(seen, [("openat", "\"/a\", O_RDONLY"), ("setsid", ""), ("newfstatat", "\"/c)\", 0x1")]);
        assert!(calls[&7][0].names("/a") && !calls[&7][0].names("/b"));
        assert_eq!(calls[&8].len(), 1);
    }
}
