//! Which image an index means, and which documents are refused.
use super::*;
use serde_json::json;

fn here() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

/// A descriptor of size `n`, by which it is told from others.
fn described(n: u64, tag: Option<&str>, platform: Option<(&str, &str)>) -> Descriptor {
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut json = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": n});
    if let Some(tag) = tag {
        json["annotations"] = json!({ TAG: tag });
    }
    if let Some((architecture, variant)) = platform {
        json["platform"] = json!({"os": "linux", "architecture": architecture, "variant": variant});
    }
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_tag_or_the_only_one() {
    let one = [described(1, Some("a"), None)];
    let two = [described(1, Some("a"), None), described(2, Some("b"), None)];
    let size = |found: Result<&Descriptor>| found.map(Descriptor::size).ok();
    assert_eq!(size(tagged(&one, None, &here())), Some(1));
    assert_eq!(size(tagged(&two, Some("b"), &here())), Some(2));
    assert_eq!(size(tagged(&one, Some("b"), &here())), None);
    assert_eq!(tagged(&two, None, &here()).unwrap_err().details, ["tags: a, b"]);
    let same = [described(1, Some("a"), None), described(2, Some("a"), None)];
    assert_eq!(size(tagged(&same, Some("a"), &here())), None, "one name for two images");
    let parts = [described(1, None, Some(("arm64", "v8"))), described(2, None, Some(("amd64", "v1")))];
    assert_eq!(size(tagged(&parts, None, &here())), Some(2));
}
