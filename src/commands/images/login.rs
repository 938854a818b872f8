//! `login` and `logout`: name and password for a registry, kept where Docker keeps them.
//!
//! By hand: `docker login -u me registry.lan:5000`, then `cat ~/.docker/config.json`.
//!
//! What goes wrong: a password on a command line is in every process list. It is taken, as Docker takes it, with a warning.

use super::verbs::{say, settings};
use crate::cli::Args;
use crate::error;
use crate::error::{Result, io_words};
use crate::image::credentials::{Kept, Secret, password, server};
use crate::image::registry::login;
use crate::image::settings::Settings;
use std::io::{BufRead, IsTerminal, Write, stdin};

/// The registry given to the verb, or Docker Hub.
fn registry(args: &Args) -> Result<String> {
    let asked = args.get_one::<String>("server").map(String::as_str).unwrap_or_default();
    server(asked).map_err(|e| e.at(format!("registry {asked:?}")))
}

/// The verb `login`.
pub fn login(args: &Args) -> Result<u8> {
    let registry = registry(args)?;
    let settings = settings(args, &registry)?;
    let text = |name: &str| args.get_one::<String>(name).cloned();
    let (user, given, piped) = (text("username"), text("password"), args.get_flag("password-stdin"));
    if given.is_some() && piped {
        return Err(error!("--password and --password-stdin: only one of them"));
    }
    if piped && user.is_none() {
        return Err(error!("--password-stdin without --username: standard input is the password's"));
    }
    if given.is_some() {
        eprintln!("WARNING! Everybody on this machine can read a password on a command line. Use --password-stdin.");
    }
    let user = user.map_or_else(|| ask("Username: "), Ok)?;
    let secret = match given {
        Some(given) => Secret(given),
        None if piped || stdin().is_terminal() => password("Password: ")?,
        None => {
            return Err(error!("standard input is no terminal to ask for a password on")
                .hint("--password-stdin takes it from there"));
        }
    };
    if let Kept::File(path) = login::login(&registry, &user, secret, &settings)? {
        eprintln!(
            "WARNING! The password is in {}, readable by its owner, not encrypted. A credential helper would encrypt it.",
            path.display()
        );
    }
    say("Login Succeeded\n").map(|()| 0)
}

/// A line from the terminal.
fn ask(prompt: &str) -> Result<String> {
    if !stdin().is_terminal() {
        return Err(error!("standard input is no terminal to ask for a name on").hint("--username USER"));
    }
    let _ = write!(std::io::stderr(), "{prompt}");
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(|e| error!("standard input: {}", io_words(&e)))?;
    Ok(line.trim().to_owned())
}

/// The verb `logout`. To have been nobody is no error.
pub fn logout(args: &Args) -> Result<u8> {
    let registry = registry(args)?;
    let told = match login::logout(&registry, &Settings::load()?)? {
        Some(_) => format!("Removing login credentials for {registry}\n"),
        None => format!("Not logged in to {registry}\n"),
    };
    say(&told).map(|()| 0)
}
