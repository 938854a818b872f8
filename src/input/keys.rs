//! The names of config.json: which keys each object has, which of them must be there, and what needs a second look.
//!
//! oci-spec's types know the same names, but cannot be asked: they fill in required keys that are missing, know two scheduler flags by wrong
//! names, take `CHOWN` for a capability, and keep a hugetlb limit in 63 bits. Each of these has its kind of [`Node`] here. The table
//! follows the specification's JSON schemas and, where those are silent, its prose. [`walk`](super::walk) uses it.

/// What may stand at a place.
pub enum Node {
    /// Whatever the type of the field takes.
    Leaf,
    /// An object with known keys; others are ignored.
    Object(&'static [Key]),
    /// An array of one kind.
    List(&'static Node),
    /// An object with free keys.
    Map(&'static Node),
    /// A word of a fixed set, or empty for absent as Go has it.
    Word,
    /// The name of a capability; an unknown one is warned of and ignored.
    Capability,
    /// A scheduler flag.
    SchedulerFlag,
    /// A number of 64 bits that oci-spec keeps in 63.
    Unsigned,
    /// Ignored, but not deeper than the parser's limit.
    Unknown,
}

/// One key of an object.
pub struct Key {
    /// As the specification writes it.
    pub name: &'static str,
    /// What its value is.
    pub node: &'static Node,
    /// What its absence means.
    pub need: Need,
}

/// What the absence of a key means.
#[derive(Clone, Copy, PartialEq)]
pub enum Need {
    /// Nothing.
    Optional,
    /// A fault when it is missing.
    Required,
    /// A fault when it is missing; this JSON stands in for it, so that the rest of the object can be judged.
    Filled(&'static str),
}

const fn opt(name: &'static str, node: &'static Node) -> Key {
    Key { name, node, need: Need::Optional }
}

const fn req(name: &'static str, node: &'static Node) -> Key {
    Key { name, node, need: Need::Required }
}

const fn fill(name: &'static str, node: &'static Node, with: &'static str) -> Key {
    Key { name, node, need: Need::Filled(with) }
}

use Node::{Capability, Leaf, List, Map, Object, SchedulerFlag, Unknown, Unsigned, Word};

static WORDS: Node = List(&Leaf);
static PAIRS: Node = Map(&Leaf);

static ID_MAPPINGS: Node = List(&Object(&[req("containerID", &Leaf), req("hostID", &Leaf), req("size", &Leaf)]));

static HOOK_LIST: Node =
    List(&Object(&[req("path", &Leaf), opt("args", &WORDS), opt("env", &WORDS), opt("timeout", &Leaf)]));

static CAPABILITIES: Node = List(&Capability);

/// `process`, and what `exec --process` reads.
pub static PROCESS: Node = Object(&[
    opt("terminal", &Leaf),
    opt("consoleSize", &Object(&[req("height", &Leaf), req("width", &Leaf)])),
    opt("user", &Object(&[opt("uid", &Leaf), opt("gid", &Leaf), opt("umask", &Leaf), opt("additionalGids", &WORDS)])),
    opt("args", &WORDS),
    opt("env", &WORDS),
    fill("cwd", &Leaf, r#""/""#),
    opt(
        "capabilities",
        &Object(&[
            opt("bounding", &CAPABILITIES),
            opt("effective", &CAPABILITIES),
            opt("inheritable", &CAPABILITIES),
            opt("permitted", &CAPABILITIES),
            opt("ambient", &CAPABILITIES),
        ]),
    ),
    opt("rlimits", &List(&Object(&[req("type", &Leaf), req("hard", &Leaf), req("soft", &Leaf)]))),
    opt("noNewPrivileges", &Leaf),
    opt("apparmorProfile", &Leaf),
    opt("oomScoreAdj", &Leaf),
    opt("selinuxLabel", &Leaf),
    opt("ioPriority", &Object(&[req("class", &Leaf), opt("priority", &Leaf)])),
    opt(
        "scheduler",
        &Object(&[
            fill("policy", &Leaf, r#""SCHED_OTHER""#),
            opt("nice", &Leaf),
            opt("priority", &Leaf),
            opt("flags", &List(&SchedulerFlag)),
            opt("runtime", &Leaf),
            opt("deadline", &Leaf),
            opt("period", &Leaf),
        ]),
    ),
    opt("execCPUAffinity", &Object(&[opt("initial", &Leaf), opt("final", &Leaf)])),
]);

static THROTTLES: Node = List(&Object(&[req("major", &Leaf), req("minor", &Leaf), opt("rate", &Leaf)]));

/// `linux.resources`.
pub static RESOURCES: Node = Object(&[
    opt(
        "devices",
        &List(&Object(&[
            req("allow", &Leaf),
            opt("type", &Word),
            opt("major", &Leaf),
            opt("minor", &Leaf),
            opt("access", &Leaf),
        ])),
    ),
    opt(
        "memory",
        &Object(&[
            opt("limit", &Leaf),
            opt("reservation", &Leaf),
            opt("swap", &Leaf),
            opt("kernel", &Leaf),
            opt("kernelTCP", &Leaf),
            opt("swappiness", &Leaf),
            opt("disableOOMKiller", &Leaf),
            opt("useHierarchy", &Leaf),
            opt("checkBeforeUpdate", &Leaf),
        ]),
    ),
    opt(
        "cpu",
        &Object(&[
            opt("shares", &Leaf),
            opt("quota", &Leaf),
            opt("idle", &Leaf),
            opt("burst", &Leaf),
            opt("period", &Leaf),
            opt("realtimeRuntime", &Leaf),
            opt("realtimePeriod", &Leaf),
            opt("cpus", &Leaf),
            opt("mems", &Leaf),
        ]),
    ),
    // The specification's prose has the limit optional since 1.3.
    opt("pids", &Object(&[opt("limit", &Leaf)])),
    opt(
        "blockIO",
        &Object(&[
            opt("weight", &Leaf),
            opt("leafWeight", &Leaf),
            opt(
                "weightDevice",
                &List(&Object(&[
                    req("major", &Leaf),
                    req("minor", &Leaf),
                    opt("weight", &Leaf),
                    opt("leafWeight", &Leaf),
                ])),
            ),
            opt("throttleReadBpsDevice", &THROTTLES),
            opt("throttleWriteBpsDevice", &THROTTLES),
            opt("throttleReadIOPSDevice", &THROTTLES),
            opt("throttleWriteIOPSDevice", &THROTTLES),
        ]),
    ),
    opt("hugepageLimits", &List(&Object(&[req("pageSize", &Leaf), req("limit", &Unsigned)]))),
    opt(
        "network",
        &Object(&[
            opt("classID", &Leaf),
            opt("priorities", &List(&Object(&[req("name", &Leaf), req("priority", &Leaf)]))),
        ]),
    ),
    opt("rdma", &Map(&Object(&[opt("hcaHandles", &Leaf), opt("hcaObjects", &Leaf)]))),
    opt("unified", &PAIRS),
]);

static SECCOMP: Node = Object(&[
    fill("defaultAction", &Leaf, r#""SCMP_ACT_ALLOW""#),
    opt("defaultErrnoRet", &Leaf),
    opt("architectures", &WORDS),
    opt("flags", &WORDS),
    opt("listenerPath", &Leaf),
    opt("listenerMetadata", &Leaf),
    opt(
        "syscalls",
        &List(&Object(&[
            req("names", &WORDS),
            req("action", &Leaf),
            opt("errnoRet", &Leaf),
            opt(
                "args",
                &List(&Object(&[req("index", &Leaf), req("value", &Leaf), opt("valueTwo", &Leaf), req("op", &Leaf)])),
            ),
        ])),
    ),
]);

static LINUX: Node = Object(&[
    opt("netDevices", &Map(&Object(&[opt("name", &Leaf)]))),
    opt("uidMappings", &ID_MAPPINGS),
    opt("gidMappings", &ID_MAPPINGS),
    opt("sysctl", &PAIRS),
    opt("resources", &RESOURCES),
    opt("cgroupsPath", &Leaf),
    opt("namespaces", &List(&Object(&[req("type", &Leaf), opt("path", &Leaf)]))),
    opt(
        "devices",
        &List(&Object(&[
            req("type", &Leaf),
            req("path", &Leaf),
            opt("major", &Leaf),
            opt("minor", &Leaf),
            opt("fileMode", &Leaf),
            opt("uid", &Leaf),
            opt("gid", &Leaf),
        ])),
    ),
    opt("seccomp", &SECCOMP),
    opt("rootfsPropagation", &Leaf),
    opt("maskedPaths", &WORDS),
    opt("readonlyPaths", &WORDS),
    opt("mountLabel", &Leaf),
    opt("intelRdt", &Unknown),
    opt("memoryPolicy", &Unknown),
    opt("personality", &Object(&[fill("domain", &Leaf, r#""LINUX""#), opt("flags", &WORDS)])),
    opt("timeOffsets", &Map(&Object(&[opt("secs", &Leaf), opt("nanosecs", &Leaf)]))),
]);

/// The whole of config.json. The parts of other systems (`windows`, `solaris`, `vm`, `zos`, `freebsd`) are not known and so are ignored.
pub static CONFIG: Node = Object(&[
    req("ociVersion", &Leaf),
    req("root", &Object(&[req("path", &Leaf), opt("readonly", &Leaf)])),
    opt(
        "mounts",
        &List(&Object(&[
            req("destination", &Leaf),
            opt("type", &Leaf),
            opt("source", &Leaf),
            opt("options", &WORDS),
            opt("uidMappings", &ID_MAPPINGS),
            opt("gidMappings", &ID_MAPPINGS),
        ])),
    ),
    opt("process", &PROCESS),
    opt("hostname", &Leaf),
    opt("domainname", &Leaf),
    opt(
        "hooks",
        &Object(&[
            opt("prestart", &HOOK_LIST),
            opt("createRuntime", &HOOK_LIST),
            opt("createContainer", &HOOK_LIST),
            opt("startContainer", &HOOK_LIST),
            opt("poststart", &HOOK_LIST),
            opt("poststop", &HOOK_LIST),
        ]),
    ),
    opt("annotations", &PAIRS),
    opt("linux", &LINUX),
]);
