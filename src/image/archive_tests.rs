//! Archives made by hand, block by block.
use super::*;
use proptest::prelude::*;

/// One header with its checksum, and its content filled up to a block.
fn block(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o100_644);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// All entries with what could be read of them.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut archive = Archive::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut content = Vec::new();
        archive.content().read_to_end(&mut content).map_err(told)?;
        entries.push((entry, content));
    }
    Ok(entries)
}

#[track_caller]
fn refused(bytes: &[u8], words: &str) {
    let e = read(bytes).unwrap_err().to_string();
    assert!(e.contains(words), "{e}");
}

#[test]
fn an_entry_and_its_end() {
    let end = [0; 2 * BLOCK];
    let bytes = [&block("f", b'0', b"hello")[..], &block("d/", 0, b""), &end, b"junk"].concat();
    let entries = read(&bytes).unwrap();
    let (file, content) = &entries[0];
    assert_eq!((&file.path[..], file.mode, file.uid, file.gid, file.mtime.seconds), (&b"f"[..], 0o644, 1, 2, 3));
    assert_eq!((file.length(), &content[..]), (5, &b"hello"[..]));
    assert_eq!((&entries[1].0.kind, entries.len()), (&Kind::Directory, 2));
    // Without an end, as some write it; cut in the padding, as umoci does.
    assert_eq!(read(&bytes[..3 * BLOCK]).unwrap(), entries);
    assert_eq!(read(&block("f", b'0', b"hello")[..BLOCK + 5]).unwrap(), entries[..1]);
}

#[test]
fn damage_is_refused() {
    let good = block("f", b'0', b"hello");
    refused(&good[..BLOCK + 4], "cut short");
    refused(&good[..100], "cut short");
    let mut bad = good.clone();
    bad[0] = b'g';
    refused(&bad, "checksum");
    refused(&[&[0; BLOCK][..], &good].concat(), "data after a block of zeros");
    refused(&block("d", b'5', b"content"), "which only a file can have");
    refused(&block("v", b'V', b""), "type 'V'");
    refused(&block("pax", b'x', b"12 path=new\n"), "ends after an extended header");
    refused(
        &[block("p", b'x', b"12 path=new\n"), block("p", b'x', b"12 path=two\n"), good.clone()].concat(),
        "two extended headers",
    );
    refused(&[block("p", b'g', b"12 path=new\n"), good.clone()].concat(), "global extended header");
    refused(&[block("p", b'x', b"10 size=9\n"), good].concat(), "two sizes");
}

#[test]
fn long_names_of_both_kinds() {
    let long = "n".repeat(150);
    let gnu = [&long, "\0"].concat();
    let file = block("short", b'0', b"");
    let by_gnu = read(&[block("L", b'L', gnu.as_bytes()), file.clone()].concat()).unwrap();
    let by_pax = read(&[block("x", b'x', format!("160 path={long}\n").as_bytes()), file].concat()).unwrap();
    assert_eq!(by_gnu[0].0.path, long.as_bytes());
    assert_eq!(by_gnu, by_pax);
}

#[test]
fn names_are_shown_short_and_without_control_characters() {
    assert_eq!(show(b"a\x1b[31m\xff"), "a\\u{1b}[31m\u{fffd}");
    assert_eq!(show(&[b'n'; 300]).len(), 203);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), kind in any::<u8>()) {
        let _ = read(&bytes);
        // With a header that is let in.
        bytes.splice(..0, block("f", kind, b""));
        let _ = read(&bytes);
        let _ = pax::read(&bytes[BLOCK..], &mut Records::default());
    }
}
