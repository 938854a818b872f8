//! explain: the plan as it is printed, and as it is executed.

use crate::harness::host;
use crate::harness::{Bundle, add_mount, bind, drop_namespace, mount};
use serde_json::json;

/// A call that `explain` announces.
#[derive(Clone, Debug, PartialEq)]
struct Announced {
    name: String,
    /// In square brackets: whether it is made depends on what is found, and it may be made several times.
    optional: bool,
}

/// The calls of one side, in order, from the text of `explain`.
fn announced(text: &str, side: &str) -> Vec<Announced> {
    let mut calls = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next().is_none_or(|n| n.parse::<u32>().is_err()) || words.next() != Some(side) {
            continue;
        }
        let rest = line[line.find(side).unwrap() + side.len()..].trim_start();
        calls.extend(names(&rest[..column_end(rest)]));
    }
    calls
}

/// The column of calls ends where two spaces stand outside of quotes and parentheses.
fn column_end(text: &str) -> usize {
    let (mut quoted, mut depth) = (false, 0);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | '{' if !quoted => depth += 1,
            ')' | '}' if !quoted => depth -= 1,
            ' ' if !quoted && depth == 0 && text[at..].starts_with("  ") => return at,
            _ => {}
        }
    }
    text.len()
}

/// Each name before an opening parenthesis at depth 0, or alone. `prctl(PR_CAPBSET_DROP, 38 capabilities)` stands for 38 calls.
fn names(text: &str) -> Vec<Announced> {
    let mut found: Vec<Announced> = Vec::new();
    let (mut name, mut arguments) = (String::new(), String::new());
    let (mut quoted, mut depth, mut brackets) = (false, 0, 0);
    for c in text.chars().chain([';']) {
        if depth > 0 {
            arguments.push(c);
        }
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => {
                depth += 1;
                if depth == 1 {
                    arguments.clear();
                }
            }
            ')' => {
                depth -= 1;
                if depth == 0 && !name.is_empty() {
                    let call = Announced { name: std::mem::take(&mut name), optional: brackets > 0 };
                    let words: Vec<&str> = arguments.trim_end_matches(')').split_whitespace().collect();
                    let times = match words[..] {
                        [.., number, "capabilities"] => number.parse().unwrap_or(1),
                        _ => 1,
                    };
                    found.extend(std::iter::repeat_n(call, times));
                }
            }
            _ if depth > 0 => {}
            c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' => name.push(c),
            _ => {
                if matches!(c, ';' | ']') && !name.is_empty() {
                    found.push(Announced { name: std::mem::take(&mut name), optional: brackets > 0 });
                }
                name.clear();
                brackets += i32::from(c == '[') - i32::from(c == ']');
            }
        }
    }
    found
}

/// A call that strace saw: name and arguments.
type Seen = (String, String);

/// The calls of the first process up to its end, and of the one that it makes up to the program's first.
fn seen(trace: &str) -> (Vec<Seen>, Vec<Seen>) {
    let mut lines: Vec<(u32, &str)> = Vec::new();
    for line in trace.lines() {
        if let Some((pid, rest)) = line.split_once(' ')
            && let Ok(pid) = pid.parse()
        {
            lines.push((pid, rest.trim_start()));
        }
    }
    let parent = lines[0].0;
    let call = |rest: &str| -> Option<Seen> {
        let (name, arguments) = rest.split_once('(')?;
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        plain.then(|| (name.to_owned(), arguments.to_owned()))
    };
    let calls = |ours: &dyn Fn(u32) -> bool| {
        lines.iter().filter(|(pid, _)| ours(*pid)).filter_map(|(_, rest)| call(rest)).collect::<Vec<_>>()
    };
    let of_parent = calls(&|pid| pid == parent);
    let mut of_child = calls(&|pid| pid != parent);
    let program = of_child.iter().rposition(|(name, _)| name == "execve").expect("the program is executed");
    of_child.truncate(program + 1);
    (of_parent, of_child)
}

/// A line of the list of what is not announced.
struct Exclusion {
    side: String,
    /// `start`: before the plan's first call; `end`: after its last; `any`.
    place: String,
    call: String,
    /// The arguments must contain this.
    arguments: String,
}

fn exclusions() -> Vec<Exclusion> {
    let text = include_str!("explain_exclusions.txt");
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let parse = |line: &str| {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let word = |n: usize| words.get(n).unwrap_or(&"").to_string();
        Exclusion {
            side: word(0),
            place: word(1),
            call: word(2),
            arguments: words.get(3..).unwrap_or_default().join(" "),
        }
    };
    lines.map(parse).collect()
}

/// Whether the calls seen are those announced, in order, but for the exclusions. `Err` tells how far they agree.
fn agree(side: &str, announced: &[Announced], seen: &[Seen], exclusions: &[Exclusion]) -> Result<(), String> {
    let excluded = |(name, arguments): &Seen, place: &str| {
        exclusions.iter().any(|e| {
            (e.side == side || e.side == "both")
                && (e.place == place || e.place == "any")
                && e.call == *name
                && arguments.contains(&e.arguments)
        })
    };
    // States: how many announced calls are behind us. One call may be taken in more than one way.
    let skip_optional = |mut at: usize, into: &mut Vec<usize>| {
        into.push(at);
        while at < announced.len() && announced[at].optional {
            at += 1;
            into.push(at);
        }
    };
    let mut states = Vec::new();
    skip_optional(0, &mut states);
    for (number, call) in seen.iter().enumerate() {
        let mut next = Vec::new();
        for &at in &states {
            let place = match at {
                0 => "start",
                n if n == announced.len() => "end",
                _ => "middle",
            };
            if excluded(call, place) {
                next.push(at);
            }
            if at < announced.len() && same(&announced[at].name, &call.0) {
                skip_optional(at + 1, &mut next);
                // A bracket may repeat.
                if announced[at].optional {
                    skip_optional(at, &mut next);
                    let first = (0..=at).rev().take_while(|n| announced[*n].optional).last().unwrap_or(at);
                    skip_optional(first, &mut next);
                }
            }
        }
        next.sort_unstable();
        next.dedup();
        if next.is_empty() {
            let furthest = states.iter().max().copied().unwrap_or(0);
            let around = |list: Vec<String>, at: usize| list[at.saturating_sub(4)..list.len().min(at + 3)].join(", ");
            let want = around(announced.iter().map(|a| a.name.clone()).collect(), furthest);
            let have = around(seen.iter().map(|s| s.0.clone()).collect(), number);
            return Err(format!(
                "{side}: call {number} is {}({}\n  announced around {furthest}: {want}\n  seen: {have}",
                call.0, call.1
            ));
        }
        states = next;
    }
    if states.contains(&announced.len()) {
        return Ok(());
    }
    let furthest = states.iter().max().copied().unwrap_or(0);
    Err(format!("{side}: announced but never seen: {}", announced[furthest].name))
}

/// Whether both are one call: what is written with a descriptor may be made without.
fn same(announced: &str, seen: &str) -> bool {
    let modern = |name: &str| match name {
        "open" => "openat".to_owned(),
        "mkdir" => "mkdirat".to_owned(),
        "mknod" => "mknodat".to_owned(),
        "symlink" => "symlinkat".to_owned(),
        "unlink" | "rmdir" => "unlinkat".to_owned(),
        "access" => "faccessat".to_owned(),
        "stat" | "lstat" | "fstatat" => "newfstatat".to_owned(),
        "umount" => "umount2".to_owned(),
        _ => name.to_owned(),
    };
    modern(announced) == modern(seen)
}

/// `explain` and `strace run` of the same bundle must agree.
#[track_caller]
fn compare(b: &Bundle) {
    b.write_config();
    let dir = b.dir();
    let text = b.cli(["explain", "-b", dir.to_str().unwrap(), &b.id]).ok().out;
    let binary = b.binary.to_str().unwrap();
    let words = ["-f", "-s", "200", "-o", "trace", binary, "--root", "root", "run", "-b", dir.to_str().unwrap(), &b.id];
    b.host("strace").args(words).run().ok();
    let (parent, child) = seen(&host::read(b.path("trace")));
    let list = exclusions();
    let results = [
        agree("parent", &announced(&text, "parent"), &parent, &list),
        agree("child", &announced(&text, "child"), &child, &list),
    ];
    let wrong: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if let Some(keep) = std::env::var_os("CORTEN_KEEP_TRACES").filter(|_| !wrong.is_empty()) {
        let keep = std::path::Path::new(&keep);
        let _ = std::fs::copy(b.path("trace"), keep.join(format!("{}.trace", b.id)));
        let _ = std::fs::write(keep.join(format!("{}.explain", b.id)), &text);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! needs_strace {
    () => {
        corten_only!("explain");
        if !host::has_program("strace") {
            skip!("strace is not installed");
        }
    };
}

#[test]
fn agrees_with_strace_for_the_default() {
    needs_strace!();
    compare(&Bundle::busybox());
}

#[test]
fn agrees_with_strace_with_the_hosts_namespaces() {
    needs_strace!();
    let b = Bundle::busybox().edit(|s| {
        for kind in ["network", "ipc", "cgroup"] {
            drop_namespace(s, kind);
        }
        s["root"]["readonly"] = true.into();
    });
    compare(&b);
}

#[test]
fn agrees_with_strace_in_a_user_namespace() {
    needs_strace!();
    compare(&Bundle::busybox().user_namespace());
}

#[test]
fn agrees_with_strace_for_mounts_and_devices() {
    needs_strace!();
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    std::fs::write(b.path("file"), "").unwrap();
    let file = b.path("file");
    let b = b.file("secret", 0o600, "x").edit(|s| {
        add_mount(s, bind(&data, "/data", &["rbind", "ro", "nosuid"]));
        add_mount(s, bind(&file, "/etc/file", &["bind"]));
        add_mount(s, mount("/scratch", "tmpfs", "tmpfs", &["size=1m", "mode=1777"]));
        s["linux"]["maskedPaths"].as_array_mut().unwrap().push("/secret".into());
        s["linux"]["devices"] = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}]);
        s["linux"]["rootfsPropagation"] = "rslave".into();
    });
    compare(&b);
}

#[test]
fn agrees_with_strace_for_the_process() {
    needs_strace!();
    let b = Bundle::busybox().edit(|s| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o027});
        s["process"]["cwd"] = "/tmp".into();
        s["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        s["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        s["linux"]["personality"] = json!({"domain": "LINUX"});
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}]
        });
    });
    compare(&b);
}

#[test]
fn needs_no_privileges() {
    corten_only!("explain");
    let b = Bundle::busybox();
    b.write_config();
    let as_root = b.cli(["explain", "-b", "bundle", &b.id]).ok().out;
    b.shell("chmod -R a+rX . && chmod a+rwx out").ok();
    std::fs::copy(&b.binary, b.path("corten")).unwrap();
    let words = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "./corten",
        "--root",
        "root",
        "explain",
        "-b",
        "bundle",
        &b.id,
    ];
    let out = b.host("setpriv").args(words).run().ok();
    assert_eq!(out.out, as_root, "it plans for root");
    assert!(host::cgroups_named(&b.id).is_empty() && !b.root().join(&b.id).exists(), "and does nothing");
}

#[test]
fn each_line_is_whole() {
    corten_only!("explain");
    let b = Bundle::busybox().edit(|s| add_mount(s, bind("/srv", "/data", &["bind"])));
    b.write_config();
    let text = b.cli(["explain", "-b", "bundle", &b.id]).ok().out;
    let steps: Vec<_> =
        text.lines().filter(|l| l.split_whitespace().next().is_some_and(|w| w.parse::<u32>().is_ok())).collect();
    assert!(steps.len() > 20, "{text}");
    for (n, step) in steps.iter().enumerate() {
        let words: Vec<_> = step.split_whitespace().collect();
        assert_eq!(words[0], (n + 1).to_string());
        assert!(["parent", "child"].contains(&words[1]), "{step}");
        assert!(words[2].contains('('), "a call: {step}");
        let page = words.last().unwrap();
        assert!(page.ends_with(')') && page.contains('('), "a man page: {step}");
    }
    let last = steps.last().unwrap();
    assert!(text.contains("\"/srv\"") && text.contains("\"/data\""), "real arguments");
    assert_eq!(steps.iter().filter(|s| s.contains(" execve(\"")).count(), 1, "{text}");
    assert!(last.contains(" execve(\""), "{text}");
}

#[test]
fn shows_dockers_flags() {
    corten_only!("explain");
    let b = Bundle::busybox();
    b.write_config();
    let words = [
        "explain",
        "-b",
        "bundle",
        "--name",
        &b.id,
        "--network=host",
        "--mount",
        "type=bind,source=/srv,target=/src,readonly",
        "--entrypoint",
        "/bin/ls",
    ];
    let out = b.cli(words).ok().stdout_has("\"/srv\"").stdout_has("\"/src\"").stdout_has("/bin/ls");
    assert!(!out.out.contains("NEWNET"), "{}", out.out);
}

#[test]
fn a_faulty_configuration_is_not_explained() {
    corten_only!("explain");
    let b = Bundle::busybox().edit(|s| s["process"]["cwd"] = "relative".into());
    b.write_config();
    b.cli(["explain", "-b", "bundle", &b.id]).code(1).stderr_has("process.cwd");
}

mod matching {
    use super::{Announced, Exclusion, agree, announced, names};

    fn plan(text: &str) -> Vec<Announced> {
        names(text)
    }

    fn trace(text: &str) -> Vec<(String, String)> {
        text.split(' ').map(|name| (name.to_owned(), String::new())).collect()
    }

    #[test]
    fn the_column_is_read() {
        let text = "run ID: 2 steps\n  1 parent  mkdirat(\"/a  (b\", 0755); write() [fstat; close()]  place  why f(x)  man(2)\n \
                    2 child   prctl(DROP, 3 capabilities)  -  x  setsid(2)\n";
        let found: Vec<_> = announced(text, "parent").into_iter().map(|a| (a.name, a.optional)).collect();
        let wanted = [("mkdirat", false), ("write", false), ("fstat", true), ("close", true)];
        assert_eq!(found, wanted.map(|(n, o)| (n.to_owned(), o)));
        assert_eq!(announced(text, "child").len(), 3);
    }

    #[test]
    fn order_and_presence_count() {
        let none: [Exclusion; 0] = [];
        let a = plan("mkdir(); [open(); read()] write()");
        for good in ["mkdir write", "mkdir openat read write", "mkdir openat read openat read write", "mkdirat write"] {
            assert_eq!(agree("parent", &a, &trace(good), &none), Ok(()), "{good}");
        }
        for bad in ["write mkdir", "mkdir", "mkdir write write", "mkdir stat write", "write"] {
            assert!(agree("parent", &a, &trace(bad), &none).is_err(), "{bad}");
        }
    }

    #[test]
    fn exclusions_have_a_place() {
        let rule = |place: &str| {
            [Exclusion { side: "both".into(), place: place.into(), call: "stat".into(), arguments: String::new() }]
        };
        let a = plan("mkdir(); write()");
        assert!(agree("child", &a, &trace("stat mkdir write"), &rule("start")).is_ok());
        assert!(agree("child", &a, &trace("mkdir stat write"), &rule("start")).is_err());
        assert!(agree("child", &a, &trace("mkdir write stat"), &rule("end")).is_ok());
        assert!(agree("child", &a, &trace("stat mkdir stat write stat"), &rule("any")).is_ok());
    }
}
