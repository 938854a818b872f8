//! Whose signature on a certificate counts: the system's authorities, or those of `SSL_CERT_FILE`, and the private one of a host.
//!
//! By hand: `openssl s_client -connect HOST:443 -CAfile /etc/ssl/certs/ca-certificates.crt </dev/null`. A private authority is put into
//! `/etc/corten/certs.d/HOST[:PORT]/ca.crt`, and counts for this host and port alone, beside the others.
//!
//! What goes wrong: a host without any file of authorities, which trusts nobody; and a certificate that was made for itself
//! (`openssl req -x509`), which is an authority and no server's.

use crate::error;
use crate::error::{Error, Result, io_words};
use crate::image::settings::{Settings, is_loopback};
use rustls::CertificateError;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where distributions keep the bundle: Debian, Fedora, SUSE, RHEL, Alpine.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How TLS is spoken with this `HOST[:PORT]`.
pub fn trusted(authority: &str, settings: &Settings) -> Result<TlsConfig> {
    let mut all = match &settings.authorities {
        Some(path) => certificates(path)?.ok_or_else(|| error!("SSL_CERT_FILE: {} is not there", path.display()))?,
        None => {
            BUNDLES.iter().find_map(|path| certificates(Path::new(path)).transpose()).transpose()?.unwrap_or_default()
        }
    };
    for path in settings.authorities_of(authority) {
        all.extend(certificates(&path)?.unwrap_or_default());
    }
    // This machine may be asked whether it speaks TLS at all.
    if all.is_empty() && !is_loopback(authority) {
        let e = error!("no file of trusted authorities was found, so no registry can be trusted");
        return Err(e.hint("install ca-certificates, or let SSL_CERT_FILE name a file"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::from(all);
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

/// The certificates of a file, if it is there.
fn certificates(path: &Path) -> Result<Option<Vec<Certificate<'static>>>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(error!("{}: {}", path.display(), io_words(&e))),
    };
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(error!("{}: it is not in PEM's form", path.display())),
        }
    }
    match found.is_empty() {
        true => Err(error!("{}: it holds no certificate", path.display())),
        false => Ok(Some(found)),
    }
}

/// Why TLS was not agreed on.
pub fn words(e: &rustls::Error, authority: &str) -> Error {
    let private = format!("put its authority into {}/{authority}/ca.crt", crate::image::settings::CERTS);
    let rustls::Error::InvalidCertificate(fault) = e else {
        return match e {
            rustls::Error::InvalidMessage(_) => error!("it does not speak TLS")
                .hint("a registry without TLS is listed in registries.toml: plain-http = [\"HOST:PORT\"]"),
            other => error!("no TLS: {other}"),
        };
    };
    match fault {
        CertificateError::UnknownIssuer => {
            error!("its certificate was issued by nobody that is trusted here").hint(private)
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => error!("its certificate has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error!("its certificate is not valid yet").hint("is the clock of this machine right?")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            error!("its certificate is for another host")
        }
        // What rustls-webpki calls CaUsedAsEndEntity has no word of its own in rustls.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            error!("its certificate is that of an authority, not of a server")
                .hint("make an authority, and with it a certificate for the server (basicConstraints = CA:FALSE)")
        }
        other => error!("its certificate is refused: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = |authorities: &Path| Settings {
            authorities: Some(authorities.to_owned()),
            certs: dir.path().join("certs.d"),
            ..Settings::default()
        };
        let nowhere = dir.path().join("nowhere");
        assert!(trusted("h:5000", &settings(&nowhere)).unwrap_err().cause.contains("is not there"));
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "no certificate").unwrap();
        assert!(trusted("h:5000", &settings(&empty)).unwrap_err().cause.contains("holds no certificate"));
    }
}
