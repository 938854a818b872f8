//! Registries, real and faulty: Debian's docker-registry over HTTP and HTTPS with images that skopeo put there, and a small server of our own that
//! does everything wrong that a server can.
//!
//! Each server is a process or a thread of its test, on 127.0.0.1, with its own temporary directory.

mod faults;
mod images;
mod kit;
mod logins;
mod proxies;
mod pushes;
mod real;
mod server;
mod tokens;
