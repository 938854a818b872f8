use super::*;
use proptest::prelude::*;
use serde_json::json;

fn thing() -> Value {
    json!({
        "ID": "abc", "Names": "web", "Labels": {"a": "b", "tier": "web"}, "Empty": [], "Nothing": null,
        "State": {"Pid": 42, "Running": true}, "Args": ["-c", "id"],
        "Mounts": [{"Source": "/a"}, {"Source": "/b"}], "Ports": {"80/tcp": [{"HostPort": "8080"}]},
    })
}

fn shown(template: &str) -> std::result::Result<String, String> {
    let format = Format::parse(template, "").map_err(|e| e.to_string())?;
    format
        .list(&[thing()], &[])
        .map(|text| text.strip_suffix('\n').unwrap_or(&text).to_owned())
        .map_err(|e| e.to_string())
}

#[test]
fn templates() {
    for (template, text) in [
        ("{{.ID}}", "abc"),
        (r"{{.ID}}\t{{ .Names }}", "abc\tweb"),
        ("{{.State.Pid}} {{.State.Running}}", "42 true"),
        ("{{json .State}}", r#"{"Pid":42,"Running":true}"#),
        ("{{.Labels | json}}", r#"{"a":"b","tier":"web"}"#),
        ("{{.Args}} {{.Labels}}", "[-c id] map[a:b tier:web]"),
        (r#"{{join .Args ","}}"#, "-c,id"),
        (r#"{{index .Labels "a"}}{{index .Labels "zz"}}{{index .Args 1}}"#, "bid"),
        (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, "8080"),
        (r#"{{with index .Ports "80/tcp"}}{{(index . 0).HostPort}}{{end}}"#, "8080"),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=b;tier=web;"),
        ("{{range $m := .Mounts}}{{$m.Source}}{{$.ID}}{{end}}", "/aabc/babc"),
        ("{{range $i, $m := .Mounts}}{{if $i}},{{end}}{{$m.Source}}{{end}}", "/a,/b"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Health}}h{{else if .Empty}}e{{else}}none{{end}}", "none"),
        (r#"{{if and .State.Running (eq .Names "db" "web")}}yes{{end}}"#, "yes"),
        ("{{if not .Nothing}}{{.Nothing}}{{end}}", "<no value>"),
        ("{{if gt .State.Pid 10}}{{len .Args}}{{end}}", "2"),
        (r#"{{.ID | upper | printf}}"#, ""),
        ("{{upper .ID}}{{title .Names}}{{truncate .Names 2}}", "ABCWebwe"),
        (r#"{{index (split "a:b" ":") 1}}{{print "x" 1}}"#, "bx1"),
        (r#"{{"a\tb"}}{{`\t`}}"#, "a\tb\\t"),
        ("a {{- .ID -}} b", "aabcb"),
        ("x{{/* a }} comment */}}y", "xy"),
        (r#"{{.Label "tier"}}"#, "web"),
        (r#"{{"}}"}}"#, "}}"),
        ("plain", "plain"),
        (r"a\nb", "a\nb"),
        ("{{.Names}}{{println}}", "web\n"),
        (r#"{{pad .ID 1 2}}|"#, " abc  |"),
    ] {
        match text {
            "" => assert!(shown(template).is_err(), "{template}"),
            text => assert_eq!(shown(template).as_deref(), Ok(text), "{template}"),
        }
    }
}

#[test]
fn what_is_refused_and_how() {
    for (template, why) in [
        ("{{.Nmaes}}", "there is no field .Nmaes"),
        ("{{.State.Foo}}", "hint: there are Pid, Running"),
        ("{{.ID.Foo}}", "there is no field .ID.Foo: .ID is a text"),
        ("{{printf \"%s\" .ID}}", "the function printf is not in this version; there are and,"),
        ("{{template \"x\"}}", "template is not in this version"),
        ("{{$x := .ID}}", "`:=` is not in this version"),
        ("{{$x}}", "the variable $x is not set"),
        ("{{.ID", "{{ without }}"),
        ("{{\"a}}", "{{ without }}"),
        ("{{}}", "{{}} has nothing in it"),
        ("{{if .ID}}x", "a block without {{end}}"),
        ("{{end}}", "{{end}} without a block"),
        ("{{else}}", "{{else}} without a block"),
        ("{{if .ID}}a{{else}}b{{else}}c{{end}}", "a block without {{end}}"),
        ("{{range .ID}}{{end}}", "range over a text"),
        ("{{(.ID}}", "( without )"),
        ("{{.ID)}}", ") without ("),
        ("{{.ID | .Names}}", "after a pipe there must be a function"),
        ("{{.ID .Names}}", "arguments without a function"),
        ("{{index .Args 7}}", "index: 7 is out of range"),
        ("{{index .Labels 7}}", "the key of a map is a text"),
        ("{{join .ID}}", "join: does not take a text"),
        ("{{json}}", "json: does not take no arguments"),
        ("{{lt .ID 1}}", "have no order"),
        ("{{.ID ? 1}}", "'?' is not understood"),
        ("{{..ID}}", "arguments without a function"),
        ("{{.ID.}}", "a field without a name"),
    ] {
        let error = shown(template).expect_err(template);
        assert!(error.starts_with("--format") && error.contains(why), "{template}: {error}");
    }
}

#[test]
fn lists_and_tables() {
    let rows = [
        json!({"ID": "abc", "Names": "web", "Labels": "a=b,c=d"}),
        json!({"ID": "def", "Names": "quiet_fox", "Labels": ""}),
    ];
    let headings = [("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Labels", "LABELS")];
    let of = |text: &str| Format::parse(text, r"{{.ID}}\t{{.Names}}").unwrap().list(&rows, &headings).unwrap();
    assert_eq!(of("table"), "CONTAINER ID   NAMES\nabc            web\ndef            quiet_fox\n");
    assert_eq!(
        of(r#"table {{.Names}}\t{{upper .ID}}\t{{.Label "c"}}"#),
        "NAMES       CONTAINER ID   C\nweb         ABC            d\nquiet_fox   DEF            \n"
    );
    assert_eq!(of("{{.ID}}"), "abc\ndef\n");
    assert_eq!(of("json").lines().count(), 2);
    let all = Format::parse("json", "").unwrap().inspect(&rows).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&all).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn any_text_is_read(text in r#"[a-zA-Z{}().$|"`\\ ,:=0-9/*-]{0,40}"#) {
        let _ = shown(&text);
        let _ = shown(&format!("{{{{{text}}}}}"));
    }
}

#[test]
fn depth_has_a_limit() {
    assert!(shown(&format!("{{{{{}.ID{}}}}}", "(".repeat(9999), ")".repeat(9999))).is_err());
    assert!(shown(&"{{if .ID}}".repeat(9999)).is_err());
}
