//! `--trace`: the plan as it happened, beside what explain says of it.

use crate::harness::{Bundle, add_mount, add_namespace, bind, host};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

/// One line of a trace.
#[derive(Debug)]
struct Line {
    since: f64,
    took: Option<f64>,
    side: String,
    number: usize,
    of: usize,
    result: String,
    call: String,
}

/// The lines of a trace, its first line, and the last one where that counts what is missing.
fn read(text: &str) -> (String, Vec<Line>, Option<String>) {
    let mut lines = text.lines();
    let head = lines.next().expect("a first line").to_owned();
    assert!(head.starts_with("trace of "), "{text}");
    let mut missing = None;
    let mut steps = Vec::new();
    for line in lines {
        if line.contains(" steps more ") {
            assert_eq!(missing.replace(line.to_owned()), None, "{text}");
            continue;
        }
        assert!(missing.is_none(), "it stands last: {text}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let (number, of) = words[3].split_once('/').unwrap_or_else(|| panic!("N/M: {line}"));
        let call = line.split_once(&format!("{number}/{of}  ")).expect("two columns").1;
        steps.push(Line {
            since: words[0].parse().expect("a time"),
            took: words[1].parse().ok(),
            side: words[2].to_owned(),
            number: number.parse().expect("a number"),
            of: of.parse().expect("a number"),
            result: words[4].to_owned(),
            call: call.split_once("  ").expect("a result").1.trim_start().to_owned(),
        });
    }
    (head, steps, missing)
}

/// Each side goes through its steps in the plan's order, and no time runs backwards.
#[track_caller]
fn in_order(steps: &[Line]) {
    assert!(steps.iter().map(|line| line.since).is_sorted(), "{steps:#?}");
    for side in ["parent", "child"] {
        let own: Vec<&Line> = steps.iter().filter(|line| line.side == side).collect();
        assert!(own.len() > 3, "{side}: {steps:#?}");
        for pair in own.windows(2) {
            assert!(pair[0].number < pair[1].number, "{side}: {pair:#?}");
            // Rounded to tenths.
            let ended = pair[0].since + pair[0].took.unwrap_or(0.0) - 0.2;
            assert!(ended <= pair[1].since, "{side}: {pair:#?}");
        }
    }
    // A minute would be a clock of another namespace.
    assert!(steps.iter().all(|line| (0.0..6e7).contains(&line.since)), "{steps:#?}");
}

/// The program's own line. The parent may look whether it was executed only after that.
#[track_caller]
fn execve(steps: &[Line]) -> &Line {
    steps.iter().find(|step| step.call.starts_with("execve(")).expect("an execve")
}

fn file(b: &Bundle) -> String {
    format!("--trace={}", b.path("times").display())
}

#[test]
fn every_step_of_explain_happens_once() {
    corten_only!("--trace");
    let b = Bundle::busybox().args(["echo", "hello"]);
    let out = b.run_with([file(&b)]).ok();
    assert_eq!((out.out.as_str(), out.err.as_str()), ("hello\n", ""));
    let mode = std::fs::metadata(b.path("times")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (head, steps, missing) = read(&host::read(b.path("times")));
    let explained = b.cli(["explain", "-b", "bundle", &b.id]).ok().out;
    let explained: Vec<Vec<&str>> = explained
        .lines()
        .filter(|line| line.split_whitespace().next().is_some_and(|word| word.parse::<usize>().is_ok()))
        .map(|line| line.trim_start().splitn(3, ' ').collect())
        .collect();
    assert!(head.contains(&format!(": {} steps;", explained.len())), "{head}");
    assert!(missing.is_none(), "{missing:?}");
    assert_eq!(steps.len(), explained.len());
    for (index, line) in explained.iter().enumerate() {
        let found: Vec<&Line> = steps.iter().filter(|step| step.number == index + 1).collect();
        let [step] = found[..] else { panic!("{line:?}: {found:?}") };
        assert_eq!((step.side.as_str(), step.of, step.result.as_str()), (line[1], explained.len(), "ok"), "{step:?}");
        assert!(line[2].trim_start().starts_with(&step.call), "{step:?} {line:?}");
    }
    in_order(&steps);
    assert_eq!(execve(&steps).took, None);
}

#[test]
fn to_standard_error_without_a_file() {
    corten_only!("--trace");
    let b = Bundle::busybox().sh("echo to-out; echo to-err >&2; exit 7");
    let out = b.run_with(["--trace"]).code(7);
    assert_eq!(out.out, "to-out\n");
    // Printed when the program was executed, which may have written by then.
    let (said, trace): (Vec<&str>, Vec<&str>) = out.err.lines().partition(|line| *line == "to-err");
    assert_eq!(said.len(), 1);
    let (_, steps, missing) = read(&trace.join("\n"));
    assert!(missing.is_none() && steps.iter().all(|step| step.result == "ok"), "{}", out.err);
    in_order(&steps);
}

#[test]
fn create_ends_where_start_begins() {
    corten_only!("--trace");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.write_config();
    b.cli(["create", &file(&b), "-b", "bundle", &b.id]).ok();
    let c = b.adopt(&b.id);
    let (_, steps, missing) = read(&host::read(b.path("times")));
    in_order(&steps);
    assert!(steps.iter().all(|step| step.result == "ok"), "{steps:#?}");
    assert!(!steps.iter().any(|step| step.call.starts_with("execve(") || step.call == "recvmsg(go)"), "{steps:#?}");
    let missing = missing.expect("some are left");
    let left: usize = missing.split_once(' ').unwrap().0.parse().expect("a number");
    assert!(missing.ends_with("steps more when it is started"), "{missing}");
    assert_eq!(steps.len() + left, steps[0].of);
    b.cli(["start", &b.id]).ok();
    drop(c);
}

#[test]
fn exec_too() {
    corten_only!("--trace");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    b.cli(["exec", &file(&b), &b.id, "echo", "hello"]).ok().stdout("hello\n");
    let (_, steps, missing) = read(&host::read(b.path("times")));
    in_order(&steps);
    assert!(missing.is_none() && steps.iter().all(|step| step.result == "ok"), "{steps:#?}");
    assert!(steps.iter().any(|step| step.call.starts_with("setns(pidfd")), "{steps:#?}");
    assert_eq!(execve(&steps).number, steps[0].of);
}

#[test]
fn exec_lends_its_memory_unless_it_can_be_traced_or_has_to_tell() {
    corten_only!("--trace");
    let clone = |b: &Bundle, options: &[&str]| {
        let to = file(b);
        let words = [&["exec", &to], options, &[&b.id, "true"]].concat();
        b.cli(words).ok();
        let (_, steps, _) = read(&host::read(b.path("times")));
        steps.into_iter().map(|step| step.call).find(|call| call.contains("clone3(")).expect("a clone")
    };
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    assert!(clone(&b, &[]).contains("clone3(VM|VFORK|"));
    let pid_file = b.path("pid");
    for options in [["--cap", "CAP_SYS_PTRACE"], ["--pid-file", pid_file.to_str().unwrap()]] {
        assert!(!clone(&b, &options).contains("VM"), "{options:?}");
    }
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let b = b.edit(|s| s["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_PTRACE"]));
    let _c = b.start();
    assert!(!clone(&b, &[]).contains("VM"));
}

#[test]
fn a_step_that_fails_is_named() {
    corten_only!("--trace");
    let b = Bundle::busybox().edit(|s| add_mount(s, bind("/no/such/path", "/mnt", &["bind"])));
    b.run_with([file(&b)]).code(1).stderr_has("host path /no/such/path does not exist");
    let (_, steps, missing) = read(&host::read(b.path("times")));
    in_order(&steps);
    let failed: Vec<&Line> = steps.iter().filter(|step| step.result == "ENOENT").collect();
    assert!(matches!(&failed[..], [one] if one.call.starts_with("open_tree(\"/no/such/path\"")), "{steps:#?}");
    assert!(missing.is_some_and(|line| line.ends_with("steps more were not reached")));

    let b = Bundle::busybox().file("script", 0o755, "#!/no/interpreter\n").args(["/script"]);
    b.run_with([file(&b)]).code(1).stderr_has("ENOENT");
    let (_, steps, missing) = read(&host::read(b.path("times")));
    assert!(execve(&steps).result == "ENOENT" && missing.is_none(), "{steps:#?}");

    // A step of the parent.
    let b = Bundle::busybox();
    let pid_file = b.path("no/such/dir/pid");
    b.run_with([&file(&b), "--pid-file", pid_file.to_str().unwrap()]).code(1);
    let (_, steps, _) = read(&host::read(b.path("times")));
    assert!(steps.iter().any(|step| step.side == "parent" && step.result == "ENOENT"), "{steps:#?}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_anything_is_done() {
    corten_only!("--trace");
    let b = Bundle::busybox();
    b.run_with(["--trace=/no/such/dir/times"])
        .code(1)
        .stderr_has("--trace /no/such/dir/times: no such file or directory (ENOENT)");
    assert!(host::cgroups_named(&b.id).is_empty() && !b.root().join(&b.id).exists());
}

#[test]
fn a_shifted_clock_does_not_show() {
    corten_only!("--trace");
    let b = Bundle::busybox().edit(|s| {
        add_namespace(s, "time", None);
        s["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1_000_000}, "boottime": {"secs": 1_000_000}});
    });
    b.run_with([file(&b)]).ok();
    in_order(&read(&host::read(b.path("times"))).1);
}

/// Notes are stores to memory: what is left are the file, the memory, and the printing.
#[test]
fn off_it_makes_no_call_and_on_no_call_for_a_step() {
    corten_only!("--trace");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    let b = Bundle::busybox().args(["/bin/true"]);
    b.write_config();
    let calls = |option: Option<String>| -> Vec<String> {
        let strace = b.host("strace").args(["-f", "-qq", "-o", "calls"]).args([b.binary.as_os_str()]);
        strace.args(["--root", "root", "run", "-b", "bundle"]).args(option).args([&b.id]).run().ok();
        let text = host::read(b.path("calls"));
        text.lines().filter(|line| !line.contains(" resumed>")).map(str::to_owned).collect()
    };
    let (off, on) = (calls(None), calls(Some(file(&b))));
    let shared = |calls: &[String]| calls.iter().filter(|call| call.contains("MAP_SHARED")).count();
    assert_eq!((shared(&off), shared(&on)), (0, 1));
    let clock = |call: &&String| call.contains("clock_gettime(") || call.contains("gettimeofday(");
    assert_eq!(on.iter().chain(&off).find(clock), None);
    let more = on.len() - off.len();
    assert!((3..15).contains(&more), "{more} calls more: {on:#?}");
}
