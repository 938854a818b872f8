//! The seccomp compiler beside libseccomp, and in the kernel.
mod kernel;
mod oracle;
mod profile;
mod random;
