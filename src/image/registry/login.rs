//! `login`: are name and password right? Then they are kept.
//!
//! The registry is asked for `/v2/`, which every registry has and which needs a login where there is one. By hand: `curl -u user https://HOST/v2/`.

use super::http::{Ask, Client};
use super::place::{Place, Scope};
use super::refusal::refused;
use crate::error::Result;
use crate::image::credentials::{self, Credentials, Kept, Secret};
use crate::image::settings::Settings;
use ureq::http::Method;

/// Checks name and password with a registry (as [`credentials::server`] gives it), and keeps them.
pub fn login(server: &str, user: &str, password: Secret, settings: &Settings) -> Result<Kept> {
    if user.is_empty() || user.contains(':') {
        return Err(crate::error!("{user:?} is not the name of a user: it is empty or has a colon"));
    }
    let credentials = Credentials::Password(user.to_owned(), password);
    let client = Client::new(settings.clone());
    let place = Place::new(server, "").with(credentials.clone());
    let discreet = |e| client.sent.discreet(e);
    let url = place.url(&client, "").map_err(|fault| fault.error)?;
    let answer = place.ask(&client, Ask::new(Method::GET, url), &Scope::None).map_err(|fault| discreet(fault.error))?;
    match answer.status {
        200 => credentials::keep(server, &credentials, settings),
        401 => Err(crate::error!("{server}: the login is refused")),
        _ => Err(discreet(refused(&Method::GET, answer)).at(server)),
    }
}

/// Forgets name and password of a registry; `None`: there was nothing to forget. The registry is not asked.
pub fn logout(server: &str, settings: &Settings) -> Result<Option<Kept>> {
    credentials::forget(server, settings)
}
