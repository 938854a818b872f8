//! Sockets between the runtime's processes: whole messages (`SOCK_SEQPACKET`), with descriptors where needed, see unix(7).

use super::{Called, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket, socketpair,
};
use nix::sys::stat::Mode;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Two connected ends.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .called(|| "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)".into())
}

/// Sends one message, with a descriptor if one is given. A peer that is gone is `EPIPE`, never a signal.
pub fn send(to: impl AsFd, bytes: &[u8], fd: Option<RawFd>) -> Result<()> {
    let fds: Vec<RawFd> = fd.into_iter().collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        let sent = sendmsg::<()>(to.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
        match sent {
            Err(Errno::EINTR) => continue,
            other => return other.map(drop).called(|| format!("sendmsg({} bytes)", bytes.len())),
        }
    }
}

/// What [`receive`] found.
pub struct Message {
    /// Whole message.
    pub bytes: Vec<u8>,
    /// The descriptor that came with it, close-on-exec.
    pub fd: Option<OwnedFd>,
}

/// Waits for one message; `None` is end of file: every copy of the other end is closed.
pub fn receive(from: impl AsFd) -> Result<Option<Message>> {
    let mut bytes = vec![0; 32 << 10];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(from.as_fd().as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            other => other.called(|| "recvmsg()".into())?,
        };
        let mut fd = None;
        for message in received.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(fds) = message {
                fd = fds.first().map(|fd| owned(*fd));
            }
        }
        let length = received.bytes;
        if length == 0 && fd.is_none() {
            return Ok(None);
        }
        bytes.truncate(length);
        bytes.shrink_to_fit();
        return Ok(Some(Message { bytes, fd }));
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for us with the message; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A listening socket of whole messages at `dir/name`.
///
/// A socket's path holds 108 bytes, and a root directory with a 64-digit id is longer: the address goes through the
/// descriptor of the directory instead.
pub fn listen_at(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    let address = address(&dir, name)?;
    let fd = seqpacket()?;
    bind(fd.as_raw_fd(), &address).called(|| format!("bind({name:?})"))?;
    let backlog = Backlog::new(8).expect("8 is a valid backlog");
    listen(&fd, backlog).called(|| format!("listen({name:?})"))?;
    Ok(fd)
}

/// Connects to the socket at `dir/name`. `ECONNREFUSED`: nobody listens any more.
pub fn connect_at(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    let address = address(&dir, name)?;
    let fd = seqpacket()?;
    connect(fd.as_raw_fd(), &address).called(|| format!("connect({name:?})"))?;
    Ok(fd)
}

/// Connects to the stream socket of somebody else at a path of any length.
pub fn connect_stream(path: &Path) -> Result<OwnedFd> {
    let call = || format!("connect({path:?})");
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .called(|| "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)".into())?;
    // An address holds 108 bytes; a longer path is reached through a descriptor of the socket itself.
    let reached = match UnixAddr::new(path) {
        Ok(address) => connect(stream.as_raw_fd(), &address),
        Err(_) => {
            let found = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).called(call)?;
            let through = format!("/proc/self/fd/{}", found.as_raw_fd());
            UnixAddr::new(through.as_str()).and_then(|address| connect(stream.as_raw_fd(), &address))
        }
    };
    reached.called(call)?;
    Ok(stream)
}

/// Sends all of `bytes` into a stream, and a descriptor with the first of them.
pub fn send_stream(to: impl AsFd, mut bytes: &[u8], fd: impl AsFd) -> nix::Result<()> {
    let fds = [fd.as_fd().as_raw_fd()];
    let mut rights = &[ControlMessage::ScmRights(&fds)][..];
    while !bytes.is_empty() {
        let slices = [IoSlice::new(bytes)];
        match sendmsg::<()>(to.as_fd().as_raw_fd(), &slices, rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => continue,
            sent => bytes = &bytes[sent?..],
        }
        rights = &[];
    }
    Ok(())
}

/// Takes the first caller.
pub fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    loop {
        match accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
            other => return other.map(owned).called(|| "accept4()".into()),
        }
    }
}

fn seqpacket() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        .called(|| "socket(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)".into())
}

fn address(dir: &impl AsFd, name: &str) -> Result<UnixAddr> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_fd().as_raw_fd());
    UnixAddr::new(path.as_str()).called(|| format!("{path:?}"))
}
