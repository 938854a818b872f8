//! What is asked of a plan, beside the configuration.

use crate::input::config::ConsoleSize;
use crate::setup::program::Inherited;
use crate::setup::rootfs::Way;
use crate::setup::{label, overlay, terminal};
use std::path::PathBuf;

/// What is asked beside the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// Directory of the bundle, absolute.
    pub bundle: PathBuf,
    /// Does it wait to be started?
    pub start: Start,
    /// Who gets the terminal, if there is one.
    pub console: Console,
    /// Where the pid goes.
    pub pid_file: Option<PathBuf>,
    /// Who gets a pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// The session keyring.
    pub keyring: label::Keyring,
    /// What lies in the root's directory.
    pub root: Root,
    /// How the root is entered.
    pub way: Way,
    /// What the caller hands on: `--preserve-fds`, `LISTEN_FDS`.
    pub inherited: Inherited,
}

/// What becomes the container's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// What lies in the directory that root.path names.
    #[default]
    Bundle,
    /// An image's layers, mounted over that directory in the container's own mount namespace: there the host never sees more than an empty one.
    Overlay(overlay::Overlay),
}

/// Does init wait?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// `run`: goes on by itself.
    #[default]
    AtOnce,
    /// `create`: waits for `start`.
    WhenTold,
}

/// Who gets the terminal's master end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Console {
    /// The runtime, which relays between it and its own terminal of this size, if it has one.
    Here(Option<ConsoleSize>),
    /// The listener on this socket.
    Socket(PathBuf),
}

impl Default for Console {
    fn default() -> Self {
        Console::Here(None)
    }
}

impl Console {
    /// As the terminal's chapter knows it.
    pub(super) fn watcher(&self) -> terminal::Watcher {
        match self {
            Console::Here(size) => terminal::Watcher::Here(*size),
            Console::Socket(_) => terminal::Watcher::Socket,
        }
    }

    /// The socket to connect to.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self {
            Console::Here(_) => None,
            Console::Socket(path) => Some(path.clone()),
        }
    }
}
