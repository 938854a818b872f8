//! The calls that `explain` prints, as a pattern for what strace sees.
//!
//! ```text
//! a(…); b(…)     one after the other
//! [a(…); b(…)]   or not
//! [a(…)]…        any number of times
//! ```

use super::trace::{Call, unescape};

/// One line of explain.
#[derive(Debug)]
pub struct Step {
    /// The whole line.
    pub line: String,
    /// `parent`, `child`.
    pub side: String,
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
enum Item {
    Call(Expected),
    Maybe(Vec<Item>, Times),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    Any,
}

/// One call as explain writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// `openat2`
    pub name: String,
    /// `root, "/proc"`
    pub args: String,
}

/// Reads the lines that begin with a number.
pub fn steps(text: &str) -> Vec<Step> {
    let numbered = text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    // Arithmetic, and no system call.
    let numbered = numbered.filter(|line| !line.contains(" parent  compile("));
    numbered
        .map(|line| {
            let rest = line.trim_start().split_once(' ').expect("a number").1;
            let (side, rest) = rest.split_once("  ").expect("a side");
            let mut reader = Reader { rest: rest.trim_start() };
            let items = reader.sequence();
            assert!(reader.rest.starts_with("  "), "explain's calls cannot be read from {:?} on:\n{line}", reader.rest);
            Step { line: line.to_owned(), side: side.trim().to_owned(), items }
        })
        .collect()
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn sequence(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            if let Some(inner) = self.rest.strip_prefix('[') {
                self.rest = inner;
                let inner = self.sequence();
                self.rest = self.rest.strip_prefix(']').unwrap_or_else(|| panic!("no ] before {:?}", self.rest));
                let many = self.rest.strip_prefix('…');
                self.rest = many.unwrap_or(self.rest);
                items.push(Item::Maybe(inner, if many.is_some() { Times::Any } else { Times::Once }));
            } else {
                items.push(Item::Call(self.call()));
            }
            match self.rest.strip_prefix("; ") {
                Some(rest) => self.rest = rest,
                None => return items,
            }
        }
    }

    fn call(&mut self) -> Expected {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        assert!(!name.is_empty() && rest.starts_with('('), "no call at {:?}", self.rest);
        let close = closing(rest);
        self.rest = &rest[close + 1..];
        Expected { name: name.to_owned(), args: rest[1..close].to_owned() }
    }
}

/// Where the parenthesis at the beginning is closed.
fn closing(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    panic!("no ) in {text:?}")
}

/// The steps of one side as a machine: each state waits for a call, or may go on without it.
#[derive(Debug, Default)]
pub struct Machine<'a> {
    states: Vec<(State, &'a str)>,
}

#[derive(Debug)]
enum State {
    Call(Expected),
    /// Go on here, or there.
    Or(usize),
    Jump(usize),
}

impl<'a> Machine<'a> {
    /// From the steps of a side.
    pub fn new(steps: &'a [Step], side: &str) -> Machine<'a> {
        let mut machine = Machine::default();
        for step in steps.iter().filter(|step| step.side == side) {
            machine.add(&step.items, &step.line);
        }
        machine
    }

    fn add(&mut self, items: &[Item], line: &'a str) {
        for item in items {
            match item {
                Item::Call(call) => {
                    let times = call.times();
                    self.states.extend((0..times).map(|_| (State::Call(call.clone()), line)));
                }
                Item::Maybe(inner, times) => {
                    let begin = self.states.len();
                    self.states.push((State::Or(0), line));
                    self.add(inner, line);
                    if *times == Times::Any {
                        self.states.push((State::Jump(begin), line));
                    }
                    self.states[begin].0 = State::Or(self.states.len());
                }
            }
        }
    }

    /// The states that wait for a call, from these on without one. The last number of all means: through.
    fn waiting(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut found = Vec::new();
        let mut next: Vec<usize> = from.into_iter().collect();
        let mut seen = vec![false; self.states.len() + 1];
        while let Some(at) = next.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            match self.states.get(at).map(|(state, _)| state) {
                Some(State::Or(other)) => next.extend([at + 1, *other]),
                Some(State::Jump(to)) => next.push(*to),
                Some(State::Call(_)) | None => found.push(at),
            }
        }
        found.sort_unstable();
        found
    }

    /// Compares. `excluded` says whether a call may be there beside the plan, given whether it is before the first step or after the last.
    pub fn compare(&self, calls: &[Call], excluded: impl Fn(&Call, When) -> bool) -> Result<(), String> {
        let end = self.states.len();
        let mut here = self.waiting([0]);
        for (number, call) in calls.iter().enumerate() {
            let beside = here.iter().copied().filter(|at| excluded(call, when(*at, end)));
            let done = here.iter().copied().filter(|at| match self.states.get(*at) {
                Some((State::Call(expected), _)) => expected.fits(call),
                _ => false,
            });
            let next: Vec<usize> = beside.chain(done.map(|at| at + 1)).collect();
            if next.is_empty() {
                let before: Vec<&str> = calls[number.saturating_sub(3)..number].iter().map(|c| &*c.text).collect();
                return Err(format!(
                    "strace saw a call that explain does not print here, and that no line of explain_exclusions.txt excuses\n  \
                     saw      {}\n  after    {}\n{}",
                    call.text,
                    before.join("\n           "),
                    self.expected(&here)
                ));
            }
            here = self.waiting(next);
        }
        if here.contains(&end) {
            return Ok(());
        }
        Err(format!("explain prints calls that strace never saw\n{}", self.expected(&here)))
    }

    fn expected(&self, here: &[usize]) -> String {
        let states = here.iter().filter_map(|at| self.states.get(*at));
        let one = |(state, line): &(State, &str)| match state {
            State::Call(call) => format!("  expected {}({})\n    of {}", call.name, call.args, line.trim_start()),
            State::Or(_) | State::Jump(_) => String::new(),
        };
        let mut all: Vec<String> = states.map(one).collect();
        let more = all.len().saturating_sub(4);
        all.drain(..more);
        all.join("\n")
    }
}

/// Where in a side's work a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before its first step.
    Start,
    /// Between two.
    Between,
    /// After its last.
    End,
}

fn when(at: usize, end: usize) -> When {
    match at {
        0 => When::Start,
        _ if at == end => When::End,
        _ => When::Between,
    }
}

/// What the gates say on the wire.
const GATES: [(&str, &str); 7] = [
    ("mapped", "M"),
    ("network", "N"),
    ("prepared", "P"),
    ("hooked", "H"),
    ("ready", "R"),
    ("go", "G"),
    ("executing", "X"),
];

impl Expected {
    /// A set of capabilities is dropped or raised one by one.
    fn times(&self) -> usize {
        let Some(set) = ["PR_CAPBSET_DROP, ", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, "]
            .iter()
            .find_map(|of| self.args.strip_prefix(of))
        else {
            return 1;
        };
        let counted = set.strip_prefix("all ").or(set.strip_suffix(" capabilities"));
        counted.map_or_else(|| set.split('|').count(), |count| count.parse().expect("a count"))
    }

    /// Whether it is this call, with these arguments as far as they are given.
    fn fits(&self, call: &Call) -> bool {
        let fits = |word: &String| self.word_fits(word, call);
        self.name == call.name
            && match &*self.name {
                "capset" => self.sets_fit(call),
                // A call that strace does not know: its arguments are bare numbers.
                _ if call.text.starts_with("syscall_0x") => true,
                _ => words(&self.args).iter().all(fits),
            }
    }

    /// `{effective=2 capabilities, permitted=KILL|SETUID, inheritable=0}`
    fn sets_fit(&self, call: &Call) -> bool {
        self.args.trim_matches(['{', '}']).split(", ").all(|part| {
            let (name, set) = part.split_once('=').expect("NAME=SET");
            let begin = call.args.find(&format!("{name}=")).expect("a set") + name.len() + 1;
            let seen = call.args[begin..].split([',', '}']).next().unwrap_or_default();
            let count = seen.matches("CAP_").count();
            match set.strip_prefix("all ").or(set.strip_suffix(" capabilities")) {
                Some(number) => number.parse() == Ok(count),
                None if set == "0" => count == 0,
                None => {
                    set.split('|').count() == count && set.split('|').all(|one| seen.contains(&format!("CAP_{one}")))
                }
            }
        })
    }

    fn word_fits(&self, word: &str, call: &Call) -> bool {
        if let Some(quoted) = word.strip_prefix('"') {
            return call.names(&unescape(quoted.strip_suffix('"').expect("a closing quote")));
        }
        if self.name.ends_with("msg")
            && let Some((_, letter)) = GATES.iter().find(|(gate, _)| *gate == word)
        {
            // With `go` may come the filter.
            let is_it = |string: &&str| string == letter || word == "go" && string.starts_with(letter);
            return call.strings.iter().any(|string| is_it(&string.as_str()));
        }
        if let Some((major, minor)) = word.split_once(':') {
            return match (major.parse::<u32>(), minor.parse::<u32>()) {
                (Ok(major), Ok(minor)) => {
                    call.args.contains(&format!("makedev({}, {})", hexadecimal(major), hexadecimal(minor)))
                }
                _ => false,
            };
        }
        if let Some((rows, columns)) = word.split_once('x').filter(|_| self.args.contains("TIOCSWINSZ")) {
            return call.args.contains(&format!("ws_row={rows}, ws_col={columns}"));
        }
        if let Some(flag) = word.strip_prefix('-').filter(|flag| flag.starts_with(char::is_uppercase)) {
            return !call.has_word(flag);
        }
        match word {
            "~0" => call.has_word("4294967295"),
            // A mask of three bits, of which an older strace has two by name.
            "ATIME" => call.has_word("ATIME") || call.has_word("STRICTATIME"),
            // The size of a set: Expected::times.
            "capabilities" | "all" => true,
            _ if self.args.contains("PR_CAP") && word.starts_with(|c: char| c.is_ascii_digit()) => {
                self.times() > 1
                    || call.has_word(word)
                    || call.args.contains(&format!("{:#x}", word.parse::<u32>().unwrap_or(0)))
            }
            _ if self.args.contains("PR_CAP") && self.times() > 1 => true,
            _ if word.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()) => call.has_word(word),
            // A descriptor by the name of what it is, or a key: the values are words of their own.
            _ => true,
        }
    }
}

/// As strace writes it.
fn hexadecimal(number: u32) -> String {
    if number == 0 { "0".into() } else { format!("{number:#x}") }
}

/// The strings, numbers and flags of explain's arguments, without the signs between them.
fn words(args: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = args;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '"' => {
                let mut escaped = false;
                let inner = rest[1..].char_indices().find(|(_, c)| {
                    let closes = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    closes
                });
                1 + inner.expect("a closing quote").0 + 1
            }
            ',' | ' ' | '{' | '}' | '[' | ']' | '|' | '=' | '(' | ')' => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            _ => rest.find([',', ' ', '{', '}', '[', ']', '|', '=', '(', ')', '"']).unwrap_or(rest.len()),
        };
        words.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    words
}

mod tests {
    use super::super::trace;
    use super::{Machine, When, steps};

    /// What comes of a plan's line and what strace saw of process 7.
    fn compare(calls: &str, seen: &[&str]) -> Result<(), String> {
        let steps = steps(&format!("run ID: 1 steps\n  1 parent  {calls}  place (x)  why  page(2)\n"));
        let text: String = seen.iter().map(|call| format!("7  {call} = 0\n")).collect();
        let calls = trace::read(&text).remove(&7).unwrap_or_default();
        Machine::new(&steps, "parent").compare(&calls, |call, when| match when {
            When::Start => call.name == "arch_prctl",
            When::Between => call.name == "mmap",
            When::End => call.name == "exit_group",
        })
    }

    #[test]
    fn order_and_presence_count() {
        let plan = r#"mkdirat("/a  (b", 0755); [openat("x"); read()]…; write("y\n")"#;
        let (mkdir, open, read, write) = (
            r#"mkdir("/a  (b", 0755)"#,
            r#"openat(3</z>, "x", O_RDONLY)"#,
            r#"read(4, "", 9)"#,
            r#"write(4, "y\n", 2)"#,
        );
        assert_eq!(compare(plan, &[mkdir, write]), Ok(()));
        assert_eq!(
            compare(plan, &["arch_prctl(1)", mkdir, open, read, "mmap(0)", open, read, write, "exit_group(0)"]),
            Ok(())
        );
        for wrong in [
            &[write, mkdir][..],
            &[mkdir],
            &[mkdir, write, write],
            &[mkdir, open, write],
            &[mkdir, "arch_prctl(1)", write],
            &[mkdir, "exit_group(0)", write],
            &[],
        ] {
            assert!(compare(plan, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn arguments_count() {
        for (plan, seen) in [
            ("clone3(NEWPID|NEWNS)", "clone3({flags=CLONE_PIDFD|CLONE_NEWNS|CLONE_NEWPID}, 88)"),
            (
                "mount_setattr(\"/\", RECURSIVE, SLAVE)",
                "mount_setattr(AT_FDCWD</>, \"/\", AT_RECURSIVE, {propagation=MS_SLAVE}, 32)",
            ),
            ("mkdirat(\"/dev/pts\", 0755)", "mkdirat(6</root/dev>, \"pts\", 0755)"),
            ("move_mount(\"/dev\")", "move_mount(9</>, \"\", 6</root/dev>, \"\", MOVE_MOUNT_F_EMPTY_PATH)"),
            ("mknodat(\"/dev/tty\", S_IFCHR|0666, 5:0)", "mknodat(6</dev>, \"tty\", S_IFCHR|0666, makedev(0x5, 0))"),
            (
                "capset({effective=2 capabilities, inheritable=0})",
                "capset({pid=0}, {effective=1<<CAP_KILL|1<<CAP_CHOWN, inheritable=0})",
            ),
            ("recvmsg(go)", "recvmsg(3, {msg_iov=[{iov_base=\"G\", iov_len=1}]})"),
            ("ioctl(TIOCSWINSZ, 24x80)", "ioctl(3, TIOCSWINSZ, {ws_row=24, ws_col=80})"),
            ("write(\"0 1 2\\n\")", "write(3, \"0 1 2\\n\", 6)"),
            ("openat(\"/proc/PID/stat\")", "openat(AT_FDCWD</>, \"/proc/12/stat\", O_RDONLY)"),
            ("close_range(3, ~0)", "close_range(3, 4294967295, 4)"),
        ] {
            assert_eq!(compare(plan, &[seen]), Ok(()));
        }
        for (plan, seen) in [
            ("clone3(NEWPID|NEWNS)", "clone3({flags=CLONE_NEWNS}, 88)"),
            ("mkdirat(\"/dev/pts\", 0755)", "mkdirat(6</root/sys>, \"pts\", 0755)"),
            ("mkdirat(\"/dev/pts\", 0755)", "mkdirat(6</root/dev>, \"pts\", 0700)"),
            ("move_mount(\"/dev\")", "move_mount(9</>, \"\", 6</root/udev>, \"\")"),
            ("capset({effective=2 capabilities})", "capset({pid=0}, {effective=1<<CAP_KILL})"),
            ("recvmsg(go)", "recvmsg(3, {msg_iov=[{iov_base=\"X\", iov_len=1}]})"),
            ("setresuid(1, 1, 1)", "setresuid(0, 0, 0)"),
            ("openat(\"/proc/PID/stat\")", "openat(AT_FDCWD</>, \"/proc/self/stat\", O_RDONLY)"),
        ] {
            assert!(compare(plan, &[seen]).is_err(), "{plan} is not {seen}");
        }
    }

    #[test]
    fn a_set_is_as_many_calls() {
        let drop = |name: &str| format!("prctl(PR_CAPBSET_DROP, {name})");
        let (kill, chown) = (drop("CAP_KILL"), drop("CAP_CHOWN"));
        assert_eq!(compare("prctl(PR_CAPBSET_DROP, 2 capabilities)", &[&kill, &chown]), Ok(()));
        assert_eq!(compare("prctl(PR_CAPBSET_DROP, KILL|CHOWN)", &[&kill, &chown]), Ok(()));
        assert!(compare("prctl(PR_CAPBSET_DROP, 2 capabilities)", &[&kill]).is_err());
    }
}
