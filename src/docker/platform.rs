//! `--platform`: which of an image's variants, `linux/arm64/v8`.
//!
//! By hand: `docker run --platform linux/386 busybox uname -m`. Names are Go's; those that uname(1) prints are known too. A part that is left out is
//! this machine's.
//!
//! What goes wrong: an image for another processor is fetched and unpacked like any other, and then execve(2) says ENOEXEC, unless
//! binfmt_misc has an emulator for it. That is found out by trying, not here.

use super::wrong;
use crate::error::Result;
use crate::input::config::Arch;

/// An operating system, an architecture, and its variant, in Go's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`
    pub architecture: String,
    /// `v8`, where one is asked for.
    pub variant: Option<String>,
}

/// Names of one architecture: as Go has it, as others have it, and the variant that the other name means.
const OTHER_NAMES: [(&str, &str, Option<&str>); 10] = [
    ("x86_64", "amd64", None),
    ("x86-64", "amd64", None),
    ("i386", "386", None),
    ("i686", "386", None),
    ("aarch64", "arm64", None),
    ("armhf", "arm", Some("v7")),
    ("armel", "arm", Some("v6")),
    ("armv7l", "arm", Some("v7")),
    ("arm64/v8", "arm64", None),
    ("arm/v7", "arm", Some("v7")),
];

const ARCHITECTURES: [&str; 10] =
    ["amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x", "mips64le", "mipsle", "loong64"];

/// This machine.
pub fn native(arch: Arch) -> Platform {
    let architecture = match arch {
        Arch::X86_64 | Arch::X32 => "amd64",
        Arch::X86 => "386",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
}

/// Reads what was typed: `linux/arm64/v8`, `linux/amd64`, `arm64`, `linux`.
pub fn parse(text: &str, arch: Arch) -> Result<Platform> {
    let lower = text.to_ascii_lowercase();
    if lower == "linux" {
        return Ok(native(arch));
    }
    let (os, rest) = match lower.split_once('/') {
        Some((os, rest)) if !known(os) => (os, rest),
        _ => ("linux", lower.as_str()),
    };
    if os != "linux" {
        return Err(wrong("--platform", text, "only images for linux can run here"));
    }
    let (name, variant) = match OTHER_NAMES.iter().find(|(other, ..)| *other == rest) {
        Some((_, name, variant)) => (*name, *variant),
        None => rest.split_once('/').map_or((rest, None), |(name, variant)| (name, Some(variant))),
    };
    let name = OTHER_NAMES.iter().find(|(other, ..)| *other == name).map_or(name, |(_, name, _)| name);
    let plain = |variant: &str| !variant.is_empty() && variant.bytes().all(|b| b.is_ascii_alphanumeric());
    if !ARCHITECTURES.contains(&name) || !variant.is_none_or(plain) {
        let form = format!("the form is linux/ARCH[/VARIANT], with one of {}", ARCHITECTURES.join(", "));
        return Err(wrong("--platform", text, form));
    }
    Ok(Platform { os: os.to_owned(), architecture: name.to_owned(), variant: variant.map(str::to_owned) })
}

fn known(name: &str) -> bool {
    ARCHITECTURES.contains(&name) || OTHER_NAMES.iter().any(|(other, ..)| *other == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        for (text, architecture, variant) in [
            ("linux", "amd64", None),
            ("linux/amd64", "amd64", None),
            ("amd64", "amd64", None),
            ("Linux/X86_64", "amd64", None),
            ("linux/arm64", "arm64", None),
            ("linux/arm64/v8", "arm64", None),
            ("aarch64", "arm64", None),
            ("linux/arm/v6", "arm", Some("v6")),
            ("arm/v7", "arm", Some("v7")),
            ("linux/armhf", "arm", Some("v7")),
            ("linux/amd64/v3", "amd64", Some("v3")),
        ] {
            let found = parse(text, Arch::X86_64).unwrap();
            assert_eq!((found.architecture.as_str(), found.variant.as_deref()), (architecture, variant), "{text}");
        }
        for text in ["", "x", "windows/amd64", "linux/", "linux/x", "linux/arm64/", "linux/arm64/v8/x", "linux/a m"] {
            assert!(parse(text, Arch::X86_64).is_err(), "{text}");
        }
    }
}
