//! A container. One that the test created is deleted with force when it goes out of scope.

use super::call::Out;
use super::{Bundle, soon, within};
use serde_json::Value;
use std::ffi::OsStr;

/// A container that exists.
#[derive(Debug)]
pub struct Container<'a> {
    bundle: &'a Bundle,
    /// Its id.
    pub id: String,
    made_by: MadeBy,
}

/// Who made it.
#[derive(Debug, PartialEq)]
enum MadeBy {
    This,
    Another,
}

impl Bundle {
    /// `create`; it must succeed.
    #[track_caller]
    pub fn create(&self) -> Container<'_> {
        self.create_as(&self.id)
    }

    /// `create` with another id; begin it with the bundle's own.
    #[track_caller]
    pub fn create_as(&self, id: &str) -> Container<'_> {
        assert!(id.starts_with(&self.id), "the leak check looks for {}", self.id);
        self.create_call::<&str>(id, []).run().ok();
        Container { bundle: self, id: id.to_owned(), made_by: MadeBy::This }
    }

    /// `create` and `start`.
    #[track_caller]
    pub fn start(&self) -> Container<'_> {
        let container = self.create();
        container.start().ok();
        container
    }

    /// The status of a container that may not be there: then empty.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        let state = self.cli(["state", id]);
        let state: Value = serde_json::from_str(&state.out).unwrap_or_default();
        state["status"].as_str().unwrap_or_default().to_owned()
    }

    /// A container that exists already, or will; left to the bundle's end.
    pub fn adopt(&self, id: &str) -> Container<'_> {
        Container { bundle: self, id: id.to_owned(), made_by: MadeBy::Another }
    }
}

impl Container<'_> {
    /// A verb with this container's id.
    #[track_caller]
    pub fn verb(&self, verb: &str) -> Out {
        self.bundle.cli([verb, &self.id])
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Out {
        self.verb("start")
    }

    /// `state`, which must succeed.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.verb("state").ok().json()
    }

    /// The status in its state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// Waits until the status is this.
    #[track_caller]
    pub fn wait_for(&self, status: &str) {
        let mut last = String::new();
        let came = soon(|| {
            last = self.status();
            last == status
        });
        assert!(came, "{} is {last}, not {status}", self.id);
    }

    /// Pid of its first process.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().expect("a pid") as i32
    }

    /// `kill ID SIGNAL`.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Out {
        self.bundle.cli(["kill", &self.id, signal])
    }

    /// SIGKILL, and waits until it is stopped.
    #[track_caller]
    pub fn stop(&self) {
        self.kill("KILL").ok();
        self.wait_for("stopped");
    }

    /// `delete`.
    #[track_caller]
    pub fn delete(&self) -> Out {
        self.verb("delete")
    }

    /// `exec ID ARGS`.
    #[track_caller]
    pub fn exec<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        self.bundle.call(["exec", &self.id]).args(args).run()
    }

    /// `exec ID sh -c SCRIPT`.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Out {
        self.exec(["sh", "-c", script])
    }

    /// `exec OPTIONS ID ARGS`.
    #[track_caller]
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Out {
        self.bundle.call(["exec"]).args(options).args([&self.id]).args(args).run()
    }

    /// Waits until a file of the container's root, named as inside, exists.
    #[track_caller]
    pub fn wait_for_file(&self, path: &str) {
        let file = self.bundle.in_rootfs(path);
        assert!(within(super::seconds(10), || file.exists()), "{path} never came in {}", self.id);
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.made_by == MadeBy::This && self.bundle.root().join(&self.id).exists() {
            let delete = || self.bundle.cli(["delete", "--force", &self.id]);
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(delete));
        }
    }
}
