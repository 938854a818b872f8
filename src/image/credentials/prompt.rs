//! A password from a person, or from a pipe.
//!
//! From a terminal it is read key by key with the echo switched off (termios(3)): so the terminal is never left silent, which a line read with
//! echo off would do after ^C. By hand: `stty -echo -icanon -isig; …; stty sane`.

use crate::error;
use crate::error::{Result, io_words};
use crate::sys::Called;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Stdin, Write};

use super::Secret;

/// Longer ones are a mistake: a file that was piped in.
const LONGEST: usize = 64 << 10;

/// The terminal as it was, put back when this goes out of scope.
struct Silent<'a>(&'a Stdin, Termios);

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.0, SetArg::TCSADRAIN, &self.1);
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    End,
    Stop,
    Back,
    Clear,
    Byte(u8),
}

fn key(byte: u8) -> Key {
    match byte {
        b'\r' | b'\n' | 4 => Key::End,
        3 | 28 => Key::Stop,
        8 | 127 => Key::Back,
        21 => Key::Clear,
        other => Key::Byte(other),
    }
}

/// Standard input's password: from a terminal without echo, after this prompt on standard error; from a pipe all of it but one last line end.
pub fn password(prompt: &str) -> Result<Secret> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut bytes = Vec::new();
        let read = stdin.lock().take(LONGEST as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| error!("standard input: {}", io_words(&e)))?;
        return from_pipe(bytes);
    }
    let before = tcgetattr(&stdin).called(|| "tcgetattr(0)".into())?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
    let _ = write!(std::io::stderr(), "{prompt}");
    let restore = Silent(&stdin, before);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).called(|| "tcsetattr(0, -ECHO -ICANON -ISIG)".into())?;
    let typed = typed(stdin.lock().bytes());
    drop(restore);
    let _ = writeln!(std::io::stderr());
    typed
}

/// The bytes of a pipe: one line end at the end is echo(1)'s.
fn from_pipe(mut bytes: Vec<u8>) -> Result<Secret> {
    if bytes.len() > LONGEST {
        return Err(error!("standard input has more than {LONGEST} bytes: that is no password"));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    secret(bytes)
}

/// The keys up to the end of the line.
fn typed(keys: impl Iterator<Item = std::io::Result<u8>>) -> Result<Secret> {
    let mut bytes = Vec::new();
    for byte in keys {
        match key(byte.map_err(|e| error!("standard input: {}", io_words(&e)))?) {
            Key::End => break,
            Key::Stop => return Err(error!("interrupted").code(130)),
            Key::Clear => bytes.clear(),
            Key::Byte(byte) => bytes.push(byte),
            // A character may have several bytes: the later ones begin with the bits 10.
            Key::Back => while bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
        }
    }
    secret(bytes)
}

fn secret(bytes: Vec<u8>) -> Result<Secret> {
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Err(error!("the password is empty")),
        Ok(text) => Ok(Secret(text)),
        Err(_) => Err(error!("the password is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_understood() {
        let typed = |keys: &str| typed(keys.bytes().map(Ok)).map(|Secret(text)| text);
        assert_eq!(typed("pass\rrest").unwrap(), "pass");
        assert_eq!(typed("pä\x7fass").unwrap(), "pass");
        assert_eq!(typed("wrong\x15pass\n").unwrap(), "pass");
        assert_eq!(typed("pa\x03ss\n").unwrap_err().code, Some(130));
        assert!(typed("\n").unwrap_err().cause.contains("empty"));
    }

    #[test]
    fn a_pipe_keeps_all_but_its_line_end() {
        let piped = |text: &str| from_pipe(text.into()).map(|Secret(text)| text);
        assert_eq!(piped("pass\n").unwrap(), "pass");
        assert_eq!(piped(" pa ss \r\n").unwrap(), " pa ss ");
        assert_eq!(piped("pass\n\n").unwrap(), "pass\n");
        assert!(piped(&"x".repeat(LONGEST + 1)).is_err());
    }
}
