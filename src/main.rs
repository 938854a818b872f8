//! The program: reads the command line, runs the verb, prints what went wrong, once.
#![cfg_attr(not(test), no_main)]

use corten::{cli, commands, error::Error, logger, sys};
use std::ffi::OsString;

#[cfg(target_arch = "x86_64")]
#[path = "sys/copy.rs"]
mod copy;
#[path = "sys/early.rs"]
mod early;
#[cfg(not(test))]
#[path = "sys/entry.rs"]
mod entry;
#[path = "sys/exchange.rs"]
mod exchange;
#[path = "sys/relocate.rs"]
mod relocate;

/// Most verbs end within a millisecond of their own work.
#[global_allocator]
static MEMORY: sys::alloc::Arena = sys::alloc::Arena;

/// The whole life of the program; the value is its exit code.
#[cfg_attr(test, allow(dead_code))]
fn begin(words: Vec<OsString>) -> u8 {
    let began = sys::clock::ticks();
    let sealed = early::sealed();
    if sealed.is_none() {
        let hand_on = cli::asks_trace(&words).then_some(began);
        if let Err(failure) = sys::seal::protect(cli::guess_verb(&words).as_deref(), &words, hand_on) {
            return fail("", &Error::from(failure).at("protecting the binary"), 1);
        }
    }
    if let Err(failure) = sys::start::prepare() {
        return fail("", &Error::from(failure).at("standard streams"), 1);
    }
    #[cfg(feature = "image")]
    if commands::init::is_asked(&words) {
        return commands::init::init(&words);
    }
    let invocation = match cli::parse(words, commands::form) {
        Ok(invocation) => {
            cli::Invocation { began: (sealed.or_else(sys::clock::handed_on).unwrap_or(began), began), ..invocation }
        }
        Err(cli::Stop::Text(text)) => {
            print!("{text}");
            return 0;
        }
        Err(cli::Stop::Usage { global, text, verb, form }) => {
            let _ = logger::open(&global);
            let verb = verb.unwrap_or_default();
            // As runc has it, and Docker's for an image.
            let code = match (verb.as_str(), form) {
                ("exec", _) => 255,
                ("run", cli::Form::Image) => 125,
                _ => 1,
            };
            return fail(&verb, &Error::new(text), code);
        }
    };
    let code = if invocation.verb == "exec" { 255 } else { 1 };
    if let Err(error) = logger::open(&invocation.global) {
        return fail(&invocation.verb, &error, code);
    }
    let subject = commands::subject(&invocation);
    match commands::run(&invocation) {
        Ok(code) => code,
        Err(error) => fail(&subject, &error, code),
    }
}

/// Prints an error for a person, and logs it for the program that called us.
#[cold]
#[inline(never)]
fn fail(subject: &str, error: &Error, code: u8) -> u8 {
    let separator = if subject.is_empty() { "" } else { ": " };
    eprintln!("corten: {subject}{separator}{error}");
    logger::error(&format!("{subject}{separator}{error}").replace("\n  ", "; "));
    error.code.unwrap_or(code)
}
