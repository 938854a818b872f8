//! `explain`: prints the plan, without privileges and without touching anything.

use super::create::request;
use super::run;
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::input::bundle::faults_error;
use crate::input::host::Host;
use crate::input::id::Id;
use crate::plan::{self, Start, explain};

/// The verb. It plans for root; the id is only for the eye.
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
    let host = Host::read();
    let request = request(args, id.as_str(), &bundle, Start::AtOnce)?;
    let (plan, _) =
        plan::container(&bundle.config, &host, &request).map_err(|found| faults_error(&found, "config.json"))?;
    print!("{}", explain::text(&plan, &format!("run {}", id.as_str()), &host));
    Ok(0)
}
