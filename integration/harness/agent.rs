//! A seccomp agent: who listens at `linux.seccomp.listenerPath`, and answers the calls that a filter holds up.

use super::{Bundle, runtime, soon, timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What it does with a listener.
#[derive(Clone, Debug)]
pub enum Habit {
    /// Answers these calls with these errnos, and lets the others go on.
    Answer(Vec<(u32, i32)>),
    /// Closes it at once.
    Close,
    /// Keeps it, and never answers.
    Silence,
}

/// A running agent. Ends with the value.
#[derive(Debug)]
pub struct Agent {
    /// Where it listens.
    pub path: PathBuf,
    log: PathBuf,
    heard: Arc<Mutex<Vec<Value>>>,
    socket: UnixListener,
    thread: Option<JoinHandle<()>>,
}

/// SECCOMP_IOCTL_NOTIF_RECV and _SEND, see seccomp_unotify(2); standard input is the listener. Writes down the number of each call.
const ANSWER: &str = r#"
    use IO::Poll; my %errno = @ARGV; $| = 1;
    while (1) {
        my $poll = IO::Poll->new; $poll->mask(\*STDIN => POLLIN); $poll->poll;
        exit unless $poll->events(\*STDIN) & POLLIN;   # everybody under the filter is gone
        my $asked = "\0" x 80;
        ioctl(STDIN, 0xc0502100, $asked) or next;
        my ($id, $pid, $flags, $nr) = unpack 'QLLl', $asked;
        print "$nr\n";
        my $errno = $errno{$nr};
        my $answer = defined $errno ? pack('QqlL', $id, 0, -$errno, 0) : pack('QqlL', $id, 0, 0, 1);
        ioctl(STDIN, 0xc0182101, $answer);
    }"#;

impl Agent {
    /// Listens at `agent.sock` of the session's folder.
    pub fn new(b: &Bundle, habit: Habit) -> Agent {
        Agent::at(b.path("agent.sock"), b.path("agent.log"), habit)
    }

    fn at(path: PathBuf, log: PathBuf, habit: Habit) -> Agent {
        let socket = UnixListener::bind(&path).expect("bind");
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        File::create(&log).expect("a log");
        let (ours, calls, listening) = (heard.clone(), log.clone(), socket.try_clone().expect("dup"));
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            let mut answering: Vec<Child> = Vec::new();
            // Until the socket is shut down.
            while let Ok((peer, _)) = listening.accept() {
                let (state, listener) = receive(peer);
                match &habit {
                    Habit::Answer(errnos) => answering.push(answer(listener, errnos, &calls)),
                    Habit::Close => drop(listener),
                    Habit::Silence => kept.push(listener),
                }
                ours.lock().expect("no panic").push(state);
            }
            for mut child in answering {
                let _ = child.kill();
                let _ = child.wait();
            }
        });
        Agent { path, log, heard, socket, thread: Some(thread) }
    }

    /// A profile that asks it about these calls, and allows the others.
    pub fn profile(&self, names: &[&str]) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "listenerPath": self.path,
            "listenerMetadata": "a \"word\" for the agent",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]
        })
    }

    /// The state that came with one of the listeners, once it is there.
    #[track_caller]
    pub fn state(&self, index: usize) -> Value {
        assert!(soon(|| self.states().len() > index), "only {} listeners came", self.states().len());
        self.states().remove(index)
    }

    /// The states that came with listeners so far.
    pub fn states(&self) -> Vec<Value> {
        self.heard.lock().expect("no panic").clone()
    }

    /// The numbers of the calls that it was asked about.
    pub fn asked(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(&self.log).expect("the log");
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// Waits until it was asked about a call.
    #[track_caller]
    pub fn wait_for(&self, call: u32) {
        assert!(soon(|| self.asked().contains(&call)), "never asked about {call}, but {:?}", self.asked());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both).expect("shutdown");
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the agent panicked");
        }
    }
}

/// The state and the listener; then the connection must end, as the specification has it.
fn receive(mut peer: UnixStream) -> (Value, OwnedFd) {
    peer.set_read_timeout(Some(timeout())).expect("time limit");
    let mut text = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(peer.as_fd(), &mut [IoSliceMut::new(&mut text)], &mut control, flags).expect("a state");
    let mut received: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            received.extend(fds);
        }
    }
    text.truncate(got.bytes);
    assert_eq!(received.len(), 1, "one descriptor comes with the state");
    let mut rest = text.as_slice().chain(&mut peer);
    let mut values = serde_json::Deserializer::from_reader(&mut rest).into_iter::<Value>();
    let state = values.next().expect("a state").expect("JSON");
    // runc leaves the connection to Go's collector of garbage.
    if runtime().is_corten() {
        assert!(values.next().is_none(), "one state per connection");
    }
    (state, received.remove(0))
}

fn answer(listener: OwnedFd, errnos: &[(u32, i32)], log: &Path) -> Child {
    let words = errnos.iter().flat_map(|(call, errno)| [call.to_string(), errno.to_string()]);
    let log = File::options().append(true).open(log).expect("the log");
    let mut perl = Command::new("perl");
    perl.args(["-e", ANSWER]).args(words).stdin(listener).stdout(log).spawn().expect("perl")
}
