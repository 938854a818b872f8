//! Which image an index means, and which documents are refused.
use super::*;
use serde_json::json;

fn here() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

/// A descriptor of size `n`, by which it is told from others.
fn described(n: u64, platform: Option<(&str, &str)>) -> Descriptor {
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut json = json!({"mediaType": FORMS[2].0, "digest": digest, "size": n});
    if let Some((architecture, variant)) = platform {
        json["platform"] = json!({"os": "linux", "architecture": architecture, "variant": variant});
    }
    serde_json::from_value(json).unwrap()
}

#[test]
fn the_variant_that_runs_everywhere() {
    let size = |list: &[Descriptor]| for_platform(list, &here()).map(Descriptor::size).ok();
    let [old, new, foreign] =
        [("amd64", "v1"), ("amd64", "v3"), ("s390x", "")].map(|p| described(p.1.len() as u64, Some(p)));
    assert_eq!(for_platform(&[new.clone(), old.clone()], &here()), Ok(&old));
    assert_eq!(for_platform(&[foreign.clone(), new.clone()], &here()), Ok(&new));
    assert_eq!(size(&[foreign]), None);
    assert_eq!(size(&[described(9, None)]), Some(9));
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
fn platforms() {
    let said = |text: &str| Platform::parse(text).map(|p| p.to_string()).ok();
    assert_eq!(said("linux/x86_64").as_deref(), Some("linux/amd64"));
    assert_eq!(said("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
    assert_eq!(said("aarch64").as_deref(), Some("linux/arm64"));
    for text in ["", "/", "linux/", "a/b/c/d", "linux/a b"] {
        assert_eq!(said(text), None, "{text}");
    }
    let list = [("arm", "v6"), ("arm", "v7")].map(|p| described(p.1.len() as u64, Some(p)));
    let asked = Platform::parse("linux/arm/v7").unwrap();
    assert_eq!(for_platform(&list, &asked).unwrap().platform().as_ref().unwrap().variant().as_deref(), Some("v7"));
}
