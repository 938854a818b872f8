//! `docker-init`: the first process of a container with `--init`. Not a verb: the program does this when it is called by that name.
//!
//! What the kernel offers: whoever is process 1 of a pid namespace inherits its orphans (pid_namespaces(7)), and gets no signal that it does not ask for. By hand:
//! `docker run --rm --init busybox ps` shows two processes where there is one without it; without `--init`, `docker stop` of a shell
//! waits for ten seconds, as the shell as process 1 does not hear SIGTERM.
//!
//! What we do: start the program in a process group of its own, in the terminal's foreground; hand it every signal that arrives; reap everybody; and end as it
//! ended, 128+n after signal n. A copy of the binary is bound read-only into the container for that (`docker::process`).
//!
//! What goes wrong: clone3(2) is refused by the container's filter, so this forks as std does. And on the way here nothing may be
//! assumed to be there: no /proc, no /dev, no rights.

use crate::error::io_words;
use crate::sys::{process, signal};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

/// The name that it is called by.
const NAME: &str = "docker-init";

/// As a shell has them: found but not executable, not found, and our own failure.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const FAILED: u8 = 1;

/// Faults of the program itself, and what cannot be caught, are not handed on.
const OWN: [i32; 7] =
    [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// Is this process to be an init? `words` begins with the name it was called by.
pub fn is_asked(words: &[OsString]) -> bool {
    words.first().is_some_and(|name| Path::new(name).file_name().is_some_and(|name| name == NAME))
}

/// Its whole life; the value is its exit code. `words` are its name, `--`, and the program with its arguments.
pub fn init(words: &[OsString]) -> u8 {
    let after = if words.get(1).is_some_and(|word| word == "--") { 2 } else { 1 };
    let Some((program, args)) = words.get(after..).and_then(<[OsString]>::split_first) else {
        eprintln!("{NAME}: no program: {NAME} -- PROGRAM [ARG…]");
        return FAILED;
    };
    let wanted = !OWN.iter().fold(0, |mask, number| mask | signal::mask(*number));
    let blocked = signal::block(wanted).and_then(|_| signal::descriptor(wanted));
    let signals = match blocked {
        Ok(signals) => signals,
        Err(errno) => {
            eprintln!("{NAME}: signalfd4(): {}", crate::sys::plain(errno));
            return FAILED;
        }
    };
    let mut command = Command::new(program);
    command.args(args);
    signal::prepare_foreground(&mut command);
    let child = match command.spawn() {
        Ok(child) => child.id() as i32,
        Err(error) => {
            eprintln!("{NAME}: {}: {}", program.to_string_lossy(), io_words(&error));
            return if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        }
    };
    loop {
        // A child may have ended before its signal could be read: first reap, then wait.
        if let Some(code) = reap(child) {
            return code;
        }
        if signal::wait_readable(signals.as_fd()).is_err() {
            return FAILED;
        }
        while let Ok(number) = signal::next(&signals) {
            if number != libc::SIGCHLD {
                let _ = process::kill(child, number);
            }
        }
    }
}

/// Reaps whoever has ended. The program's exit code, if it is among them.
fn reap(child: i32) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, end))) = process::reap_any() {
        if pid == child {
            code = Some(end.code());
        }
    }
    code
}
