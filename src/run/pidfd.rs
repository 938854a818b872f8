//! `--pidfd-socket`: who asks for it gets the process itself, and not a number that may mean another one later.
//!
//! What the kernel offers: clone3(2) gives the parent a pidfd, and a unix socket carries it to another process (SCM_RIGHTS, unix(7)). The receiver may
//! send signals through it and wait for the end.
//!
//! What we do is runc's: one message to a stream socket, the word `standard` for a container's first process and `setns` for that of `exec`, with the
//! descriptor. By hand: listen on a socket, `corten run --pidfd-socket SOCKET -d web`, and `cat /proc/PID/fdinfo/N` of the receiver has the pid.
//!
//! What goes wrong: nobody listens. That is found before anything is made; runc's child finds it.

use super::Context;
use crate::plan::step::Whose;
use crate::sys::{Called, Failure, Result, plain, socket};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Connects to the caller's socket.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    socket::connect_stream(path).map_err(|failure| {
        let words = plain(failure.errno);
        failure.because(format!("pidfd socket {}: {words}", path.display()))
    })
}

/// Sends the process, and closes the connection.
pub fn send(whose: Whose, context: &mut Context) -> Result<()> {
    let (Some(socket), Some((_, pidfd))) = (context.pidfd_socket.take(), &context.first) else {
        return Err(Failure::refused(
            "sendmsg(pidfd)",
            Errno::ENOTCONN,
            "there is no process, or nobody to send it to",
        ));
    };
    socket::send_stream(&socket, whose.word().as_bytes(), pidfd)
        .called(|| format!("sendmsg({:?}, pidfd)", whose.word()))
        .map_err(|failure| {
            let words = plain(failure.errno);
            failure.because(format!("pidfd socket: {words}"))
        })
}
