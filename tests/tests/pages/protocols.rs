//! The names of protocols are those that the file takes.

use crate::read;

/// What editors and readers are told of protocols is what the daemon takes.
#[test]
fn names_of_protocols_are_those_of_the_schema_and_the_manual() {
    let schema: serde_json::Value =
        serde_json::from_str(&read("packaging/schema/mirror.schema.json")).unwrap();
    let names = &schema["$defs"]["filter"]["properties"]["protocol"]["items"]["anyOf"][1]["enum"];
    let names: Vec<&str> = names
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    assert_eq!(names.len(), 57);
    let page = read("docs/file.md");
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let words: Vec<&str> = page
        .split(|c| !is_part(c))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    for name in names {
        assert!(
            traffic_mirror::desired::parse_protocol(name).is_ok(),
            "{name}"
        );
        assert!(words.contains(&name), "{name}");
    }
}
