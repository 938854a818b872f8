//! `explain`: prints the plan, without privileges and without touching anything.

use super::create::request;
use super::run;
use crate::cli::Invocation;
use crate::error::{Error, Result, io_words};
use crate::input::bundle::faults_error;
use crate::input::host::Host;
use crate::input::id::Id;
use crate::plan::{self, Plan, Start, explain};
use std::io::{BufWriter, ErrorKind, Write};

/// The verb. It plans for root; the id is only for the eye.
#[inline(never)]
pub fn explain(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    if args.get_flag("rootless") {
        return Err(Error::new("--rootless: a plan for an ordinary user is not in this version"));
    }
    let words: Vec<String> = args.get_many::<String>("words").unwrap_or_default().cloned().collect();
    let (name, words) = match args.get_one::<String>("name") {
        Some(name) => (name.clone(), words),
        None => (words.first().cloned().unwrap_or_else(|| "ID".to_owned()), Vec::new()),
    };
    let id = Id::parse(&name)?;
    let bundle = run::bundle(args, words)?;
    // Whoever asks: `run` would be root's.
    let host = Host { is_root: true, ..Host::read() };
    let request = request(args, id.as_str(), &bundle, Start::AtOnce)?;
    let (plan, _) =
        plan::container(&bundle.config, &host, &request).map_err(|found| faults_error(&found, "config.json"))?;
    print(&plan, &format!("run {}", id.as_str()), &host)
}

/// Prints a plan. `what` is the verb, and what it is about.
pub fn print(plan: &Plan, what: &str, host: &Host) -> Result<u8> {
    let mut out = Out(BufWriter::new(std::io::stdout().lock()), Ok(()));
    let _ = explain::write(&mut out, plan, what, host);
    match out.1.and_then(|()| out.0.flush()) {
        // Who reads on has seen enough: `explain | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        written => written.map(|()| 0).map_err(|error| Error::new(format!("standard output: {}", io_words(&error)))),
    }
}

/// Text on its way out, and what went wrong with it.
struct Out<W: Write>(BufWriter<W>, std::io::Result<()>);

impl<W: Write> std::fmt::Write for Out<W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.1 = self.0.write_all(text.as_bytes());
        if self.1.is_ok() { Ok(()) } else { Err(std::fmt::Error) }
    }
}
