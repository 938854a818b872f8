//! Starting programs: always with a time limit, output always into files.
//!
//! Not pipes: the container of a detached `create` keeps the output open, and the test would wait for its end.

use super::timeout;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A program to be started.
#[derive(Debug)]
pub struct Call {
    command: Command,
    words: Vec<OsString>,
    out: PathBuf,
    timeout: Duration,
    stdin: Option<PathBuf>,
    own_stdio: bool,
}

impl Call {
    /// A program whose output goes into new files in `dir`.
    pub fn new(program: impl AsRef<OsStr>, dir: &Path) -> Call {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let out = dir.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let words = vec![program.as_ref().to_owned()];
        Call { command: Command::new(program), words, out, timeout: timeout(), stdin: None, own_stdio: false }
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Call {
        for arg in args {
            self.words.push(arg.as_ref().to_owned());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Call {
        self.command.env(name, value);
        self
    }

    /// A system call that the kernel refuses, to the program and to all that it starts: by a filter, as an older kernel or a policy would. strace injects by
    /// names alone, and only those it knows.
    #[allow(unsafe_code)]
    pub fn refusing(mut self, number: u32, errno: i32) -> Call {
        let one = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let mut filter = [
            one(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter { jf: 1, ..one(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number) },
            one(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
            one(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let install = move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            // SAFETY: a program of as many instructions, alive until the call returns.
            let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
            if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: one system call and no memory, between fork and execve.
        unsafe { self.command.pre_exec(install) };
        self
    }

    /// Starts with no environment at all.
    pub fn no_env(mut self) -> Call {
        self.command.env_clear();
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Call {
        self.command.current_dir(dir);
        self
    }

    /// What it reads on standard input; nothing unless said.
    pub fn stdin(mut self, text: &str) -> Call {
        let file = self.out.with_extension("in");
        std::fs::write(&file, text).expect("input file");
        self.stdin = Some(file);
        self
    }

    /// Another time limit than 20 s.
    pub fn timeout(mut self, limit: Duration) -> Call {
        self.timeout = limit;
        self
    }

    /// Gives it these descriptors instead of files.
    pub fn stdio(mut self, stdin: impl Into<Stdio>, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Call {
        self.command.stdin(stdin).stdout(stdout).stderr(stderr);
        self.own_stdio = true;
        self
    }

    /// Gives it another standard input.
    pub fn stdin_from(mut self, stdin: impl Into<Stdio>) -> Call {
        self.command.stdin(stdin);
        self.stdin = Some(PathBuf::new());
        self
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        if !self.own_stdio {
            match &self.stdin {
                None => _ = self.command.stdin(Stdio::null()),
                Some(file) if file.as_os_str().is_empty() => {}
                Some(file) => _ = self.command.stdin(File::open(file).expect("input file")),
            }
            // Appending, as a shell's `>>`: a container and its runtime may write to the same file.
            let open = |end| File::options().append(true).create(true).open(self.out.with_extension(end));
            self.command.stdout(open("out").expect("output file")).stderr(open("err").expect("output file"));
        }
        let child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.words[0]));
        let words: Vec<_> = self.words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
        Running { child, words: words.join(" "), out: self.out, timeout: self.timeout, done: false }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub fn run(self) -> Out {
        self.spawn().wait()
    }
}

/// A started program. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    words: String,
    out: PathBuf,
    timeout: Duration,
    done: bool,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        read(&self.out.with_extension("out"))
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.out.with_extension("err"))
    }

    /// Waits until its output contains a text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let mut ended = false;
        let seen = super::soon(|| {
            let seen = self.stdout().contains(text);
            // One more look after its end.
            let give_up = !seen && ended;
            ended = self.has_ended();
            seen || give_up
        });
        if !seen || !self.stdout().contains(text) {
            panic!(
                "`{}` never wrote {text:?}:\n{}{}",
                self.words,
                self.stdout(),
                read(&self.out.with_extension("err"))
            );
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.done = self.done || matches!(self.child.try_wait(), Ok(Some(_)));
        self.done
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Out {
        let start = Instant::now();
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            if start.elapsed() > self.timeout {
                let _ = self.child.kill();
                let _ = self.child.wait();
                self.done = true;
                let (out, err) = (self.stdout(), read(&self.out.with_extension("err")));
                panic!("`{}` still ran after {:?}\nstdout: {out}\nstderr: {err}", self.words, self.timeout);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        };
        self.done = true;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let (stdout, stderr) = (self.out.with_extension("out"), self.out.with_extension("err"));
        Out { words: self.words.clone(), status: code, out: read(&stdout), err: read(&stderr), took: start.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a program ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Out {
    words: String,
    /// Exit code, or 128 and the signal.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Out {
    /// Its exit code must be this.
    #[track_caller]
    pub fn code(self, code: i32) -> Out {
        assert!(self.status == code, "exit code {} instead of {code}{}", self.status, self.tell());
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Out {
        self.code(0)
    }

    /// It must have failed, with any code.
    #[track_caller]
    pub fn fails(self) -> Out {
        assert!(self.status != 0, "succeeded{}", self.tell());
        self
    }

    /// It must have written exactly this.
    #[track_caller]
    pub fn stdout(self, text: &str) -> Out {
        assert!(self.out == text, "stdout {:?} instead of {text:?}{}", self.out, self.tell());
        self
    }

    /// Standard output must contain this.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Out {
        assert!(self.out.contains(text), "no {text:?} in stdout{}", self.tell());
        self
    }

    /// Standard output must not contain this.
    #[track_caller]
    pub fn stdout_lacks(self, text: &str) -> Out {
        assert!(!self.out.contains(text), "{text:?} in stdout{}", self.tell());
        self
    }

    /// Standard error must contain this, in any case of letters.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Out {
        let has = self.err.to_lowercase().contains(&text.to_lowercase());
        assert!(has, "no {text:?} in stderr{}", self.tell());
        self
    }

    /// Standard error must contain one of these.
    #[track_caller]
    pub fn stderr_has_one_of(self, texts: &[&str]) -> Out {
        let err = self.err.to_lowercase();
        assert!(texts.iter().any(|t| err.contains(&t.to_lowercase())), "none of {texts:?} in stderr{}", self.tell());
        self
    }

    /// Nothing on standard error.
    #[track_caller]
    pub fn silent(self) -> Out {
        assert!(self.err.is_empty(), "something on stderr{}", self.tell());
        self
    }

    /// Standard output without spaces at its ends.
    pub fn text(&self) -> &str {
        self.out.trim()
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not JSON: {e}{}", self.tell()))
    }

    /// The session so far, for a panic.
    pub fn tell(&self) -> String {
        format!("\n$ {}\nexit: {}\nstdout: {}\nstderr: {}", self.words, self.status, self.out, self.err)
    }
}

/// Writes the whole of a text into a new file.
pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.write_all(text.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
