//! Tests with a bundle on disk.
use super::*;
use std::fs::File;

fn bundle_with(text: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), text).unwrap();
    dir
}

#[test]
fn the_directory_is_absolute_and_the_text_kept() {
    let dir = bundle_with(&patched(json!({})));
    std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
    let bundle = Bundle::load(&dir.path().join("link")).unwrap();
    assert_eq!(bundle.dir, std::fs::canonicalize(dir.path()).unwrap());
    assert_eq!(bundle.raw, patched(json!({})));
    assert_eq!(bundle.raw.len(), patched(json!({})).len());
}

#[test]
fn what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    let error = Bundle::load(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("no config.json in {here}\n  hint: `corten spec` writes one"));
    let error = Bundle::load(&dir.path().join("x")).unwrap_err().to_string();
    assert_eq!(error, format!("bundle {here}/x: no such file or directory (ENOENT)"));
    std::fs::create_dir(dir.path().join("config.json")).unwrap();
    let error = Bundle::load(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{here}/config.json: is a directory"));
    let error = Bundle::load(Path::new("/dev/null")).unwrap_err().to_string();
    assert_eq!(error, "bundle /dev/null: not a directory (ENOTDIR)");
}

#[test]
fn a_large_file_is_refused_unread() {
    let dir = bundle_with(b"{}");
    let file = File::options().write(true).open(dir.path().join("config.json")).unwrap();
    file.set_len(1 << 30).unwrap();
    let error = Bundle::load(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("config.json: has 1073741824 bytes or more; the most is 16777216 (16 MiB)"), "{error}");
    // A file without a size could be endless.
    let error = read_limited(&File::open("/dev/zero").unwrap().into()).unwrap_err().to_string();
    assert_eq!(error, "is not a regular file");
}

#[test]
fn the_limit_itself_is_allowed() {
    let mut text = patched(json!({}));
    text.resize(MAX_CONFIG, b' ');
    assert!(Bundle::load(bundle_with(&text).path()).is_ok());
    text.push(b' ');
    assert!(Bundle::load(bundle_with(&text).path()).is_err());
}

#[test]
fn what_runc_writes_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(done) = std::process::Command::new("runc").arg("spec").current_dir(dir.path()).output() else {
        eprintln!("skipped: no runc in PATH");
        return;
    };
    assert!(done.status.success(), "{done:?}");
    let bundle = Bundle::load(dir.path()).unwrap();
    assert_eq!(bundle.config.hostname.as_deref(), Some("runc"));
    assert!(bundle.warnings.is_empty());
}
