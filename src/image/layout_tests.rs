//! Which image an index means, and which documents are refused.
use super::*;
use serde_json::json;

const HERE: Platform = Platform { os: "linux", architecture: "amd64" };

/// A descriptor of size `n`, by which it is told from others.
fn described(n: u64, tag: Option<&str>, platform: Option<(&str, &str)>) -> Descriptor {
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut json = json!({"mediaType": FORMS[2].0, "digest": digest, "size": n});
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
    assert_eq!(size(tagged(&one, None, HERE)), Some(1));
    assert_eq!(size(tagged(&two, Some("b"), HERE)), Some(2));
    assert_eq!(size(tagged(&one, Some("b"), HERE)), None);
    assert_eq!(tagged(&two, None, HERE).unwrap_err().details, ["tags: a, b"]);
    let same = [described(1, Some("a"), None), described(2, Some("a"), None)];
    assert_eq!(size(tagged(&same, Some("a"), HERE)), None, "one name for two images");
    let parts = [described(1, None, Some(("arm64", "v8"))), described(2, None, Some(("amd64", "v1")))];
    assert_eq!(size(tagged(&parts, None, HERE)), Some(2));
}

#[test]
fn the_variant_that_runs_everywhere() {
    let size = |list: &[Descriptor]| for_platform(list, HERE).map(Descriptor::size).ok();
    let [old, new, foreign] =
        [("amd64", "v1"), ("amd64", "v3"), ("s390x", "")].map(|p| described(p.1.len() as u64, None, Some(p)));
    assert_eq!(for_platform(&[new.clone(), old.clone()], HERE), Ok(&old));
    assert_eq!(for_platform(&[foreign.clone(), new.clone()], HERE), Ok(&new));
    assert_eq!(size(&[foreign]), None);
    assert_eq!(size(&[described(9, None, None)]), Some(9));
    assert_eq!(size(&[]), None);
}

#[test]
fn a_document_is_one_thing() {
    let said =
        |json: serde_json::Value, form| document(json.to_string().as_bytes(), form).map(drop).map_err(|e| e.cause);
    let config = json!({"mediaType": FORMS[4].0, "digest": format!("sha256:{}", "0".repeat(64)), "size": 1});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    let index = json!({"schemaVersion": 2, "manifests": []});
    assert_eq!(said(manifest.clone(), Form::Manifest), Ok(()));
    assert_eq!(said(index.clone(), Form::Index), Ok(()));
    assert_eq!(said(manifest.clone(), Form::Index), Err("it is a manifest".into()));
    assert_eq!(said(index.clone(), Form::Manifest), Err("it is an index".into()));
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    assert_eq!(said(both, Form::Manifest), Err("it is an index and a manifest at once".into()));
    let mut lying = manifest;
    lying["mediaType"] = FORMS[0].0.into();
    assert_eq!(said(lying, Form::Manifest), Err(format!("its mediaType is {}", FORMS[0].0)));
    assert!(said(json!({"schemaVersion": 1, "fsLayers": []}), Form::Manifest).is_err());
}

#[test]
fn zstd_is_refused_by_name() {
    let mut descriptor = described(1, None, None);
    descriptor.set_media_type("application/vnd.oci.image.layer.v1.tar+zstd".into());
    let e = layer(&descriptor, "").unwrap_err();
    assert!(e.cause.contains("tar+zstd") && e.hint.is_some(), "{e}");
}
