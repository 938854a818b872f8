//! Limits as Docker's users write them: `512m`, `1.5` cpus, `nofile=1024:4096`, `/dev/fuse:/dev/fuse:rw`.
//!
//! By hand: `docker run --rm -m 64m --cpus 0.5 --ulimit nofile=10:20 busybox sh -c 'ulimit -n; cat /sys/fs/cgroup/cpu.max'` (cgroup v2).
//!
//! What goes wrong: memory and swap are one number in Docker's options and two in the kernel's; without `--memory-swap` a limit of
//! memory allows the same again as swap. A limit of swap alone has no meaning, and is refused.

use super::configure::Facts;
use super::defaults::NETWORK_SYSCTLS;
use super::network::Namespace;
use super::options::Options;
use super::wrong;
use crate::error;
use crate::error::Result;
use crate::input::config::{Device, DeviceKind};
use crate::input::overrides::bytes;
use serde_json::{Map, Value, json};
use std::path::{Component, Path};

/// Microseconds in which `--cpus` is reckoned, the kernel's default.
const PERIOD: u64 = 100_000;

/// The size of /dev/shm in bytes: 64 MiB.
const SHM: u64 = 64 << 20;

/// The resource limits that Docker knows. `as` is not among them.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A size in bytes; `None` if it is not given or 0, which is Docker's "not given".
fn size(option: &str, text: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    match bytes(text) {
        Some(0) => Ok(None),
        Some(size) if i64::try_from(size).is_ok() => Ok(Some(size)),
        _ => Err(wrong(option, text, "not a size as 512m or 1.5g")),
    }
}

fn number(option: &str, text: Option<&str>) -> Result<Option<i64>> {
    let parse = |text: &str| text.parse::<i64>().map_err(|_| wrong(option, text, "not a whole number"));
    text.map(parse).transpose()
}

/// `linux.resources` without its devices.
pub fn resources(options: &Options, processors: &dyn Fn() -> u32) -> Result<Map<String, Value>> {
    let mut resources = Map::new();
    let (memory, cpu) = (memory(options)?, cpu(options, processors)?);
    if !memory.is_empty() {
        resources.insert("memory".to_owned(), memory.into());
    }
    if !cpu.is_empty() {
        resources.insert("cpu".to_owned(), cpu.into());
    }
    if let Some(most) = number("--pids-limit", options.pids_limit.as_deref())? {
        let limit = if most <= 0 { -1 } else { most };
        resources.insert("pids".to_owned(), json!({ "limit": limit }));
    }
    Ok(resources)
}

fn memory(options: &Options) -> Result<Map<String, Value>> {
    let limit = size("--memory", options.memory.as_deref())?;
    let together = match options.memory_swap.as_deref() {
        Some("-1") => Some(-1),
        text => size("--memory-swap", text)?.map(|size| size as i64),
    };
    let shown = options.memory_swap.as_deref().unwrap_or_default();
    let mut memory = Map::new();
    match (limit, together) {
        (None, Some(1..)) => {
            return Err(wrong("--memory-swap", shown, "is memory and swap together, and needs --memory"));
        }
        (Some(limit), Some(together @ 1..)) if (together as u64) < limit => {
            let memory = options.memory.as_deref().unwrap_or_default();
            return Err(wrong(
                "--memory-swap",
                shown,
                format!("is memory and swap together, and less than --memory {memory}"),
            ));
        }
        _ => {}
    }
    if let Some(limit) = limit {
        memory.insert("limit".to_owned(), limit.into());
        let together = together.unwrap_or_else(|| i64::try_from(limit.saturating_mul(2)).unwrap_or(-1));
        memory.insert("swap".to_owned(), together.into());
    }
    Ok(memory)
}

fn cpu(options: &Options, processors: &dyn Fn() -> u32) -> Result<Map<String, Value>> {
    let mut cpu = Map::new();
    if let Some(text) = options.cpus.as_deref() {
        let quota = cpus(text, processors()).map_err(|cause| wrong("--cpus", text, cause))?;
        if quota > 0 {
            cpu.insert("quota".to_owned(), quota.into());
            cpu.insert("period".to_owned(), PERIOD.into());
        }
    }
    match number("--cpu-shares", options.cpu_shares.as_deref())? {
        Some(shares @ 1..) => drop(cpu.insert("shares".to_owned(), shares.into())),
        Some(..0) => {
            return Err(wrong("--cpu-shares", options.cpu_shares.as_deref().unwrap_or_default(), "is below 0"));
        }
        // 0 is Docker's "not given".
        Some(0) | None => {}
    }
    if let Some(list) = options.cpuset_cpus.as_deref().filter(|list| !list.is_empty()) {
        let highest = cpu_list(list).ok_or_else(|| wrong("--cpuset-cpus", list, "not a list as 0-2,5"))?;
        let processors = processors();
        if highest >= processors {
            let last = processors.saturating_sub(1);
            return Err(wrong("--cpuset-cpus", list, format!("the processors here are 0-{last}")));
        }
        cpu.insert("cpus".to_owned(), list.into());
    }
    Ok(cpu)
}

/// Microseconds per [`PERIOD`]. At least the thousandth of a second that the kernel allows, at most what there is; 0 is "not given".
fn cpus(text: &str, processors: u32) -> std::result::Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err("not a number of processors as 1.5".to_owned());
    }
    if fraction.len() > 9 {
        return Err("has more than nine digits after the point".to_owned());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
    let nanos: u64 = format!("{fraction:0<9}").parse().unwrap_or_default();
    let quota = whole.saturating_mul(PERIOD).saturating_add(nanos / (1_000_000_000 / PERIOD));
    let most = u64::from(processors) * PERIOD;
    match quota {
        0 if nanos == 0 => Ok(0),
        1000.. if quota <= most => Ok(quota),
        _ => Err(format!("is not between 0.01 and {processors}.00, the processors here")),
    }
}

/// The highest number in a list as `0-2,5`; `None` if it is none.
fn cpu_list(list: &str) -> Option<u32> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let mut highest = 0;
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return None;
        }
        highest = highest.max(to);
    }
    Some(highest)
}

/// `process.rlimits`. Of two for one resource the last counts.
pub fn rlimits(options: &Options) -> Result<Value> {
    let mut limits: Vec<(String, u64, u64)> = Vec::new();
    for text in &options.ulimit {
        let (name, soft, hard) = ulimit(text).map_err(|cause| wrong("--ulimit", text, cause))?;
        limits.retain(|(old, ..)| *old != name);
        limits.push((name, soft, hard));
    }
    Ok(limits.into_iter().map(|(name, soft, hard)| json!({"type": name, "soft": soft, "hard": hard})).collect())
}

fn ulimit(text: &str) -> std::result::Result<(String, u64, u64), String> {
    let (name, values) = text.split_once('=').ok_or("has no `=`: the form is nofile=1024:4096")?;
    if !ULIMITS.contains(&name) {
        return Err(format!("{} is not one of {}", super::quote(name), ULIMITS.join(", ")));
    }
    let value = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| format!("{} is neither a number nor -1", super::quote(text))),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok((format!("RLIMIT_{}", name.to_ascii_uppercase()), soft, hard))
}

/// The bytes of /dev/shm.
pub fn shm(options: &Options) -> Result<u64> {
    Ok(size("--shm-size", options.shm_size.as_deref())?.unwrap_or(SHM))
}

/// `--device` as it was typed.
#[derive(Debug, PartialEq, Eq)]
struct DeviceWords<'a> {
    host: &'a str,
    container: &'a str,
    access: &'a str,
}

fn device_words(text: &str) -> std::result::Result<DeviceWords<'_>, String> {
    let is_access = |word: &str| {
        !word.is_empty() && word.len() <= 3 && "rwm".chars().filter(|c| word.contains(*c)).count() == word.len()
    };
    let parts: Vec<&str> = text.split(':').collect();
    let words = match parts[..] {
        [host] => DeviceWords { host, container: host, access: "rwm" },
        [host, access] if is_access(access) => DeviceWords { host, container: host, access },
        [host, container] => DeviceWords { host, container, access: "rwm" },
        [host, container, access] if is_access(access) => DeviceWords { host, container, access },
        [_, _, access] => return Err(format!("{} is not made of r, w and m", super::quote(access))),
        _ => return Err("more than two colons; the form is HOST[:PATH[:rwm]]".to_owned()),
    };
    for path in [words.host, words.container] {
        if !path.starts_with('/') || Path::new(path).components().any(|part| part == Component::ParentDir) {
            return Err(format!("{} is not an absolute path", super::quote(path)));
        }
    }
    Ok(words)
}

/// `linux.devices` and the rules that allow them. With `--privileged` every device of the host, and one rule for all.
pub fn devices(options: &Options, facts: &Facts) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    if options.privileged {
        nodes.extend((facts.devices)(Path::new("/dev"))?.iter().map(|device| node(device, &device.path)));
        return Ok((nodes, vec![json!({"allow": true, "access": "rwm"})]));
    }
    // runc's and our own devices of every container (null, zero, tty, …) are allowed by the runtime itself.
    rules.push(json!({"allow": false, "access": "rwm"}));
    for text in &options.device {
        let words = device_words(text).map_err(|cause| wrong("--device", text, cause))?;
        let found =
            (facts.devices)(Path::new(words.host)).map_err(|e| e.at(format!("--device {}", super::quote(text))))?;
        if found.is_empty() {
            return Err(wrong("--device", text, "there are no devices below it"));
        }
        for device in &found {
            let below = device.path.strip_prefix(words.host).unwrap_or(Path::new(""));
            let inside = if below.as_os_str().is_empty() {
                words.container.into()
            } else {
                Path::new(words.container).join(below)
            };
            nodes.retain(|old: &Value| old["path"] != json!(inside));
            nodes.push(node(device, &inside));
            rules.push(json!({
                "allow": true, "type": letter(device.kind), "major": device.major, "minor": device.minor, "access": words.access,
            }));
        }
    }
    Ok((nodes, rules))
}

fn letter(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Block => "b",
        DeviceKind::Char => "c",
        DeviceKind::Fifo => "p",
    }
}

fn node(device: &Device, inside: &Path) -> Value {
    json!({
        "path": inside, "type": letter(device.kind), "major": device.major, "minor": device.minor,
        "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
    })
}

/// `linux.sysctl`. Whether one belongs to a namespace of the container is judged with the whole configuration.
pub fn sysctl(options: &Options, network: &Namespace) -> Result<Map<String, Value>> {
    let mut sysctl = Map::new();
    if *network == Namespace::Own {
        sysctl.extend(NETWORK_SYSCTLS.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
    }
    for text in &options.sysctl {
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("--sysctl", text, "has no `=`"))?;
        if key.is_empty() {
            return Err(error!("--sysctl {}: has no name before the `=`", super::quote(text)));
        }
        sysctl.insert(key.to_owned(), value.into());
    }
    Ok(sysctl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources_of(options: Options) -> std::result::Result<Value, String> {
        resources(&options, &|| 2).map(Value::from).map_err(|e| e.to_string())
    }

    fn with(set: impl FnOnce(&mut Options)) -> Options {
        let mut options = Options::default();
        set(&mut options);
        options
    }

    #[test]
    fn memory_and_swap() {
        for (memory, together, expected) in [
            ("64m", None, json!({"limit": 67_108_864, "swap": 134_217_728})),
            ("1.5g", None, json!({"limit": 1_610_612_736, "swap": 3_221_225_472_i64})),
            ("64m", Some("-1"), json!({"limit": 67_108_864, "swap": -1})),
            ("64M", Some("64mb"), json!({"limit": 67_108_864, "swap": 67_108_864})),
            ("6000000b", Some("0"), json!({"limit": 6_000_000, "swap": 12_000_000})),
        ] {
            let options = with(|o| {
                o.memory = Some(memory.into());
                o.memory_swap = together.map(Into::into);
            });
            assert_eq!(resources_of(options).unwrap()["memory"], expected, "{memory} {together:?}");
        }
        assert_eq!(resources_of(with(|o| o.memory = Some("0".into()))), Ok(json!({})));
    }

    #[test]
    fn memory_that_is_none() {
        for (memory, together, why) in [
            (Some("x"), None, "--memory x: not a size"),
            (Some("-1"), None, "--memory -1: not a size"),
            (Some("1."), None, "not a size"),
            (Some("9999999p"), None, "not a size"),
            (Some(""), None, "--memory \"\": not a size"),
            (None, Some("1g"), "--memory-swap 1g: is memory and swap together, and needs --memory"),
            (Some("64m"), Some("1m"), "less than --memory 64m"),
            (Some("64m"), Some("-2"), "--memory-swap -2: not a size"),
        ] {
            let options = with(|o| {
                o.memory = memory.map(Into::into);
                o.memory_swap = together.map(Into::into);
            });
            let error = resources_of(options).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn processors() {
        for (text, quota) in [
            ("0.5", 50_000),
            ("1", 100_000),
            ("2.00", 200_000),
            (".25", 25_000),
            ("0.01", 1000),
            ("1.123456789", 112_345),
        ] {
            assert_eq!(cpus(text, 2), Ok(quota), "{text}");
        }
        assert_eq!(cpus("0", 2), Ok(0));
        for text in ["x", "-1", "", ".", "2.1", "100", "0.001", "1.1234567891", "1,5", "99999999999999999999999"] {
            assert!(cpus(text, 2).is_err(), "{text}");
        }
        for (list, highest) in
            [("0", Some(0)), ("0-2,5", Some(5)), ("1,0", Some(1)), ("2-1", None), ("x", None), ("0-", None), ("", None)]
        {
            assert_eq!(cpu_list(list), highest, "{list}");
        }
        assert!(resources_of(with(|o| o.cpuset_cpus = Some("0-2".into()))).unwrap_err().contains("here are 0-1"));
        assert!(resources_of(with(|o| o.cpu_shares = Some("-1".into()))).unwrap_err().contains("below 0"));
    }

    #[test]
    fn processes() {
        for (text, limit) in [("10", 10), ("0", -1), ("-1", -1)] {
            assert_eq!(resources_of(with(|o| o.pids_limit = Some(text.into()))), Ok(json!({"pids": {"limit": limit}})));
        }
        assert!(resources_of(with(|o| o.pids_limit = Some("x".into()))).unwrap_err().contains("--pids-limit x"));
    }

    #[test]
    fn ulimits() {
        for (text, expected) in [
            ("nofile=10:20", ("RLIMIT_NOFILE", 10, 20)),
            ("nofile=10", ("RLIMIT_NOFILE", 10, 10)),
            ("core=-1", ("RLIMIT_CORE", u64::MAX, u64::MAX)),
            ("rttime=5:-1", ("RLIMIT_RTTIME", 5, u64::MAX)),
        ] {
            assert_eq!(ulimit(text), Ok((expected.0.to_owned(), expected.1, expected.2)), "{text}");
        }
        for text in [
            "nofile",
            "nofile=",
            "nofile=5:4",
            "nofile=-1:5",
            "nofile=-2",
            "x=1",
            "as=1",
            "NOFILE=1",
            "nofile=1:2:3",
            "nofile=a",
        ] {
            assert!(ulimit(text).is_err(), "{text}");
        }
        let twice = with(|o| o.ulimit = vec!["nofile=1".into(), "core=2".into(), "nofile=3".into()]);
        assert_eq!(
            rlimits(&twice).unwrap(),
            json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 2}, {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}])
        );
    }

    #[test]
    fn device_grammar() {
        for (text, host, container, access) in [
            ("/dev/null", "/dev/null", "/dev/null", "rwm"),
            ("/dev/null:/x", "/dev/null", "/x", "rwm"),
            ("/dev/null:rw", "/dev/null", "/dev/null", "rw"),
            ("/dev/null:/x:r", "/dev/null", "/x", "r"),
        ] {
            assert_eq!(device_words(text), Ok(DeviceWords { host, container, access }), "{text}");
        }
        for text in [
            "rw",
            "/dev/null:x",
            "/dev/null:/x:q",
            "/dev/null:/x:rr",
            "/dev/null:/x:rw:z",
            "/dev/../x",
            "",
            "/dev/null:/x:",
        ] {
            assert!(device_words(text).is_err(), "{text}");
        }
    }
}
