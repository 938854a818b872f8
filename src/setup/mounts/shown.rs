//! What `explain` prints of a mount: its system calls in order.

use super::{
    Action, Bind, Cloned, Content, Entered, IdMap, Kind, Legacy, New, Owner, Remount, RootMode, Spot, Way, What, early,
    elsewhere, whole,
};
use crate::setup::options::Data;
use crate::sys::mount::{Change, Reach, attr};
use crate::sys::path;
use nix::mount::MsFlags;
use std::fmt;
use std::path::Path;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut calls = match &self.what {
            What::New(new) => new.calls(&self.target),
            What::Bind(bind) => bind.calls(&self.target),
            What::Early(bind) => bind.early_calls(),
            What::Legacy(legacy) => legacy.calls(&self.target),
            What::Remount(remount) => remount.calls(&self.target),
            What::Seal => vec![open(&self.target), setattr(Reach::This, &Change::set(attr::RDONLY))],
        };
        calls.extend(self.propagation.iter().map(|(how, reach)| setattr(*reach, &Change::propagate(*how))));
        f.write_str(&calls.join("; "))
    }
}

fn open(target: &Path) -> String {
    format!("openat2(root, {target:?})")
}

/// In brackets: what is called when it is missing.
fn open_or_make(target: &Path) -> String {
    format!("openat2(root, {target:?}); [{}]", path::shown_directory(target))
}

fn open_or_make_either(target: &Path) -> String {
    format!("openat2(root, {target:?}); [fstat(); {}]", path::shown_either(target))
}

pub(super) fn setattr(reach: Reach, change: &Change) -> String {
    let recursive = if reach == Reach::Tree { "RECURSIVE, " } else { "" };
    format!("mount_setattr({recursive}{change})")
}

pub(super) fn attach(target: &Path) -> String {
    format!("move_mount({target:?})")
}

pub(super) fn config(flags: &[&'static str], data: &[Data]) -> Vec<String> {
    let flag = |key: &str| format!("fsconfig(SET_FLAG, {key:?})");
    let data = data.iter().map(|data| match &data.value {
        Some(value) => format!("fsconfig(SET_STRING, {:?}, {value:?})", data.key),
        None => flag(&data.key),
    });
    flags.iter().map(|key| flag(key)).chain(data).collect()
}

/// What copies a directory, entry by entry, whatever they are.
const COPY: &str = "openat(\".\", O_DIRECTORY); [getdents64()]…; [[newfstatat()]; [openat()]; [fstat()]; [getdents64()]; [mkdirat()]; \
     [copy_file_range()]; [readlinkat()]; [symlinkat()]; [mknodat()]; [fchownat()]; [fchmod()]; [utimensat()]]…";

impl New {
    fn calls(&self, target: &Path) -> Vec<String> {
        let mut calls = match self.spot {
            Spot::InDev(_) => vec![format!("mkdirat({target:?}, 0755)")],
            Spot::Anywhere if self.mode == RootMode::Covered => vec![open_or_make(target), "[fstat()]".into()],
            Spot::Anywhere => vec![open_or_make(target)],
        };
        match self.way {
            Way::Parts => self.parts(target, &mut calls),
            Way::Whole => self.whole(target, &mut calls),
            Way::Long => {
                let mount = whole::shown(self, ".", None);
                calls.push(format!("openat(\".\", O_PATH); fchdir({target:?}); {mount}; fchdir(\".\")"));
                calls.push(open(target));
            }
        }
        calls
    }

    fn whole(&self, target: &Path, calls: &mut Vec<String>) {
        match self.spot {
            Spot::InDev(entered) => {
                if entered == Entered::No {
                    calls.push("fchdir(\"/dev\")".into());
                }
                let name = target.file_name().unwrap_or_default().to_string_lossy();
                calls.push(whole::shown(self, &name, self.mode_in_dev()));
            }
            Spot::Anywhere => {
                calls.push(format!("fchdir({target:?})"));
                calls.push(match self.mode {
                    RootMode::Own => whole::shown(self, ".", None),
                    RootMode::Covered => whole::shown_covering(self, "."),
                });
            }
        }
        calls.push(whole::shown_again(self, target));
        if whole::kept(self, target) {
            calls.push(format!("[{}; fstatfs()]", open(target)));
        }
    }

    fn parts(&self, target: &Path, calls: &mut Vec<String>) {
        calls.push(format!("fsopen({:?})", self.kind));
        calls.extend(self.source.iter().map(|source| format!("fsconfig(SET_STRING, \"source\", {source:?})")));
        if self.mode == RootMode::Covered {
            calls.push("fsconfig(SET_STRING, \"mode\")".into());
        }
        calls.extend(config(&self.flags, &self.data));
        calls.push("fsconfig(CMD_CREATE)".into());
        calls.push(format!("fsmount({})", attr::names(self.attributes)));
        if let Some(own) = &self.instead {
            calls.push(format!(
                "[open_tree({own:?}, CLONE|RECURSIVE); {}]",
                setattr(Reach::This, &Change::set(self.attributes))
            ));
        }
        if let Some(label) = &self.root_label {
            calls.push(format!("openat(mount, \".\"); fsetxattr(\"security.selinux\", {label:?})"));
        }
        if self.content == Content::Covered {
            calls.push(COPY.into());
        }
        calls.push(attach(target));
    }
}

impl Bind {
    fn open_tree(&self) -> String {
        let recursive = if self.reach == Reach::Tree { "|RECURSIVE" } else { "" };
        format!("open_tree({:?}, CLONE{recursive})", self.source)
    }

    fn early_calls(&self) -> Vec<String> {
        let tree = match self.within {
            None => self.open_tree(),
            Some(pid) => elsewhere::shown(pid, &self.source, self.reach),
        };
        let mut calls = vec![tree, setattr(Reach::Tree, &Change::propagate(MsFlags::MS_SLAVE))];
        if let Some(IdMap { reach, owner }) = &self.idmap {
            calls.push(match owner {
                Owner::Namespace(path) => format!("openat({path:?})"),
                Owner::Maps { users, groups } => format!(
                    "pipe2(O_CLOEXEC); clone3(NEWUSER); openat(\"/proc\", O_PATH); fstatfs(); fstat(); \
                     openat2(proc, \"PID/uid_map\"); write({:?}); openat2(proc, \"PID/gid_map\"); write({:?}); \
                     openat(proc, \"PID/ns/user\"); waitid()",
                    early::lines(users),
                    early::lines(groups)
                ),
            });
            calls.push(setattr(*reach, &Change::set(attr::IDMAP)));
        }
        calls
    }

    fn calls(&self, target: &Path) -> Vec<String> {
        let mut calls = Vec::new();
        if self.cloned_by != Cloned::Parent {
            calls.push(self.open_tree());
        }
        if self.source_must_be == Kind::Proc {
            calls.push("fstatfs()".into());
        }
        for (reach, change) in [(Reach::This, &self.this), (Reach::Tree, &self.tree)] {
            if !change.is_nothing() {
                calls.push(setattr(reach, change));
            }
        }
        calls.push(open_or_make_either(target));
        calls.push(attach(target));
        calls
    }
}

impl Legacy {
    fn calls(&self, target: &Path) -> Vec<String> {
        let mut calls = vec![
            open_or_make(target),
            "fsopen(\"tmpfs\"); fsconfig(SET_STRING, \"mode\", \"755\")".into(),
            format!("fsmount({})", attr::names(self.attributes & !attr::RDONLY)),
            attach(target),
        ];
        calls.splice(2..2, config(&[], &self.data).into_iter().chain(["fsconfig(CMD_CREATE)".into()]));
        for (directory, name) in &self.binds {
            let place = target.join(name);
            calls.push(format!("mkdirat({place:?}); open_tree({directory:?}, CLONE); {}", attach(&place)));
        }
        calls.extend(self.links.iter().map(|(link, to)| format!("symlinkat({to:?}, {:?})", target.join(link))));
        calls.push(setattr(Reach::Tree, &Change::set(self.attributes)));
        calls
    }
}

impl Remount {
    fn calls(&self, target: &Path) -> Vec<String> {
        let mut calls = vec![open(target)];
        for (reach, change) in [(Reach::This, &self.this), (Reach::Tree, &self.tree)] {
            if !change.is_nothing() {
                calls.push(setattr(reach, change));
            }
        }
        let config = config(&self.flags, &self.data);
        if !config.is_empty() {
            calls.push("fspick()".into());
            calls.extend(config);
            calls.push("fsconfig(CMD_RECONFIGURE)".into());
        }
        calls
    }
}
