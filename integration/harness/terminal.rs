//! Terminals: one that the test plays the person at, and the socket that receives a container's.

use super::{timeout, within};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A pseudo-terminal: the test holds the master.
#[derive(Debug)]
pub struct Pty {
    master: File,
    /// The other side, for a program's stdio.
    pub slave: Option<OwnedFd>,
    seen: String,
}

impl Pty {
    /// A new one of that many rows and columns.
    pub fn new(rows: u16, columns: u16) -> Pty {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let both = openpty(Some(&size), None).expect("openpty");
        Pty { slave: Some(both.slave), ..Pty::of(both.master) }
    }

    /// A master received from elsewhere.
    pub fn of(master: OwnedFd) -> Pty {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("F_SETFL");
        Pty { master: master.into(), slave: None, seen: String::new() }
    }

    /// The slave once more.
    pub fn slave(&self) -> OwnedFd {
        self.slave.as_ref().expect("a slave").try_clone().expect("dup")
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// Changes the size; the kernel sends SIGWINCH to the foreground process group.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.master, size).expect("TIOCSWINSZ");
    }

    /// Everything shown so far.
    pub fn seen(&mut self) -> &str {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = self.master.read(&mut bytes) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        &self.seen
    }

    /// Waits until a text was shown.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let came = within(timeout(), || self.seen().contains(text));
        assert!(came, "the terminal never showed {text:?} but {:?}", self.seen);
    }
}

/// The other end of `--console-socket`, or of `--pidfd-socket`.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    /// What to give to the option.
    pub path: String,
}

impl ConsoleSocket {
    /// Listens at a path.
    pub fn new(path: &Path) -> ConsoleSocket {
        let listener = UnixListener::bind(path).expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        ConsoleSocket { listener, path: path.to_str().expect("UTF-8").to_owned() }
    }

    /// Receives the terminal: the message that came with it, and the master.
    #[track_caller]
    pub fn receive(&self) -> (String, Pty) {
        let (text, master) = self.receive_any();
        (text, Pty::of(master))
    }

    /// Receives whatever descriptor comes, and the message that came with it.
    #[track_caller]
    pub fn receive_any(&self) -> (String, OwnedFd) {
        let mut peer = None;
        within(timeout(), || {
            peer = self.listener.accept().ok();
            peer.is_some()
        });
        let (peer, _) = peer.expect("a connection to the socket");
        peer.set_nonblocking(false).expect("blocking");
        peer.set_read_timeout(Some(timeout())).expect("time limit");
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(peer.as_fd(), &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .expect("a message on the socket");
        let mut received: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                received.extend(fds);
            }
        }
        assert_eq!(received.len(), 1, "one descriptor comes over the socket");
        (String::from_utf8_lossy(&text[..got.bytes]).into_owned(), received.remove(0))
    }
}
