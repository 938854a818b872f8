//! `process`: program, environment, directory and user, from the image and from the options.
//!
//! By hand: `docker inspect IMAGE | jq '.[0].Config'`; `docker run --rm --entrypoint echo IMAGE hello`. The program is the image's `Entrypoint` and then its
//! `Cmd`; words after the image replace `Cmd`, `--entrypoint` replaces both.
//!
//! What goes wrong: variables come from five places, and the later one wins: our own (`PATH`, `HOSTNAME`, `TERM`), the image's, the
//! files', then `-e`. `HOME` is set by the runtime from the image's own passwd, unless one of those has it.

use super::configure::Facts;
use super::defaults;
use super::options::Options;
use super::{quote, wrong};
use crate::error;
use crate::error::Result;
use crate::input::config::User;
use crate::input::user::{self, UserRequest};
use crate::input::variables::{apply_file, apply_variable};
use oci_spec::image::Config;
use std::path::Path;

/// Where the reaper is bound, as Docker has it.
pub const INIT: &str = "/sbin/docker-init";

/// The program and its arguments.
pub fn args(options: &Options, image: &Config) -> Result<Vec<String>> {
    let image_list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (entrypoint, command) = match &options.entrypoint {
        Some(program) => (if program.is_empty() { Vec::new() } else { vec![program.clone()] }, options.command.clone()),
        None if options.command.is_empty() => (image_list(image.entrypoint()), image_list(image.cmd())),
        None => (image_list(image.entrypoint()), options.command.clone()),
    };
    let mut args = entrypoint;
    args.extend(command);
    match args.first().map(String::as_str) {
        None => Err(error!("no command specified: the image {} names none", quote(&options.image))
            .hint("give one after the image, or --entrypoint")),
        Some("") => Err(error!("no program to run: its name is empty")),
        Some(_) if options.init => Ok([INIT, "--"].map(String::from).into_iter().chain(args).collect()),
        Some(_) => Ok(args),
    }
}

/// `process.env`.
pub fn env(options: &Options, image: &Config, hostname: &str, facts: &Facts) -> Result<Vec<String>> {
    let mut env = vec![defaults::PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if options.tty {
        env.push("TERM=xterm".to_owned());
    }
    let given = &facts.caller.env;
    // A stranger's: what is no variable is left out instead of being looked up in the caller's environment.
    for entry in image.env().iter().flatten().filter(|entry| entry.find('=').is_some_and(|at| at > 0)) {
        apply_variable(entry, given, &mut env)?;
    }
    for file in &options.env_file {
        let at = |cause: error::Error| cause.at(format!("--env-file {}", quote(file)));
        let text = (facts.read)(&facts.caller.dir.join(Path::new(file))).map_err(at)?;
        apply_file(&text, given, &mut env).map_err(at)?;
    }
    for entry in &options.env {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(wrong("-e", entry, "has no name"));
        }
        apply_variable(entry, given, &mut env)?;
    }
    Ok(env)
}

/// `process.cwd`.
pub fn cwd(options: &Options, image: &Config) -> Result<String> {
    match options.workdir.as_deref().filter(|dir| !dir.is_empty()) {
        Some(dir) if dir.starts_with('/') => Ok(dir.to_owned()),
        Some(dir) => Err(wrong("-w", dir, "is not an absolute path")),
        None => {
            // Counted from the root where it is relative.
            let dir = image.working_dir().as_deref().unwrap_or_default();
            Ok(if dir.starts_with('/') { dir.to_owned() } else { format!("/{dir}") })
        }
    }
}

/// `process.user`, looked up in the image's own files.
pub fn user(options: &Options, image: &Config, facts: &Facts) -> Result<User> {
    let (asked, whose) = match options.user.as_deref().filter(|user| !user.is_empty()) {
        Some(user) => (UserRequest::parse(user), "-u"),
        None => (UserRequest::of_image(image.user().as_deref().unwrap_or_default()), "the image's User"),
    };
    let found = asked.and_then(|asked| user::resolve(&asked, facts.passwd, facts.group));
    let mut found = found.map_err(|e| e.at(whose))?;
    // The group is an additional one too: without it, a setgid program could leave a group that files deny something (CVE-2022-36109).
    if !found.additional_gids.contains(&found.gid) {
        found.additional_gids.insert(0, found.gid);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn programs() {
        let image = image(r#"{"Entrypoint":["/e","1"],"Cmd":["c"]}"#);
        let of = |entrypoint: Option<&str>, command: &[&str], init: &str| {
            let options = Options {
                entrypoint: entrypoint.map(Into::into),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                init: init == "init",
                ..Options::default()
            };
            args(&options, &image).map(|args| args.join(" ")).map_err(|e| e.to_string())
        };
        assert_eq!(of(None, &[], ""), Ok("/e 1 c".to_owned()));
        assert_eq!(of(None, &["x", "y"], ""), Ok("/e 1 x y".to_owned()));
        assert_eq!(of(Some("/b"), &[], ""), Ok("/b".to_owned()));
        assert_eq!(of(Some("/b"), &["x"], "init"), Ok("/sbin/docker-init -- /b x".to_owned()));
        assert_eq!(of(Some(""), &["x"], ""), Ok("x".to_owned()));
        assert!(of(Some(""), &[], "").unwrap_err().contains("no command specified"));
        assert!(of(Some(""), &[""], "").unwrap_err().contains("its name is empty"));
    }
}
