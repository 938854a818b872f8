//! Profiles in Docker's own format, which is OCI's with conditions on capabilities and architectures.

use corten::input::config::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompRule};
use serde_json::Value;

/// Where Docker's own profile lies, if it does.
pub fn dockers() -> String {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/docker-seccomp.json");
    std::env::var("CORTEN_TEST_DOCKER_SECCOMP").unwrap_or(beside.into())
}

/// A profile for all the architectures that a machine of this one would list.
pub fn load(path: &str, capabilities: &[&str], native: Arch) -> Option<Seccomp> {
    let Ok(text) = std::fs::read(path) else {
        println!("skipped: no {path}");
        return None;
    };
    let json: Value = serde_json::from_slice(&text).unwrap();
    let (name, architectures) = match native {
        Arch::Aarch64 => ("arm64", vec![Arch::Aarch64, Arch::Arm]),
        _ => ("amd64", vec![Arch::X86_64, Arch::X86, Arch::X32]),
    };
    let meets = |condition: &Value, all: bool| {
        let words = |key: &str| -> Vec<&str> {
            condition[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let (caps, arches) = (words("caps"), words("arches"));
        if all {
            caps.iter().all(|cap| capabilities.contains(cap)) && (arches.is_empty() || arches.contains(&name))
        } else {
            !caps.iter().any(|cap| capabilities.contains(cap)) && !arches.contains(&name)
        }
    };
    let rules = json["syscalls"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| meets(&rule["includes"], true) && meets(&rule["excludes"], false)).map(|rule| {
        SeccompRule {
            names: rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect(),
            action: action(&rule["action"], &rule["errnoRet"]),
            args: rule["args"].as_array().into_iter().flatten().map(argument).collect(),
        }
    });
    let default_action = action(&json["defaultAction"], &json["defaultErrnoRet"]);
    Some(Seccomp { default_action, architectures, rules: rules.collect(), ..Seccomp::default() })
}

fn action(name: &Value, errno: &Value) -> Action {
    match name.as_str().unwrap() {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.as_u64().unwrap_or(1) as u16),
        other => panic!("{other} is new in this profile"),
    }
}

fn argument(arg: &Value) -> SeccompArg {
    let op = match arg["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => Operator::Ne,
        "SCMP_CMP_LT" => Operator::Lt,
        "SCMP_CMP_LE" => Operator::Le,
        "SCMP_CMP_EQ" => Operator::Eq,
        "SCMP_CMP_GE" => Operator::Ge,
        "SCMP_CMP_GT" => Operator::Gt,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEq,
        other => panic!("{other}"),
    };
    SeccompArg {
        index: arg["index"].as_u64().unwrap() as u8,
        op,
        value: arg["value"].as_u64().unwrap(),
        value_two: arg["valueTwo"].as_u64().unwrap_or(0),
    }
}
