//! stand-in
#[derive(Default)]
pub struct Overrides { pub tty: bool, pub mounts: Vec<String>, pub entrypoint: Option<String>, pub args: Vec<String>, pub env: Vec<String>, pub workdir: Option<String>, pub user: Option<String>, pub hostname: Option<String>, pub network: Option<String> }
impl Overrides { pub fn apply(&self, _b: &mut super::bundle::Bundle) -> crate::error::Result<()> { Ok(()) } }
