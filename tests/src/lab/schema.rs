//! Whether what a command prints as JSON is as its published schema says.
//!
//! It knows the part of JSON Schema that these use, and takes any other keyword for an error, so
//! that no schema says what nobody checks. The usual crates would bring some forty others.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

/// The schemas of packaging/schema/, by subcommand.
const PUBLISHED: [(&str, &str); 4] = [
    (
        "check",
        include_str!("../../../packaging/schema/check.schema.json"),
    ),
    (
        "status",
        include_str!("../../../packaging/schema/status.schema.json"),
    ),
    (
        "plan",
        include_str!("../../../packaging/schema/plan.schema.json"),
    ),
    (
        "explain",
        include_str!("../../../packaging/schema/explain.schema.json"),
    ),
];

/// What says nothing about the value.
const ANNOTATIONS: [&str; 4] = ["$schema", "$defs", "title", "description"];

/// That what a subcommand printed with `--json` is JSON, and as its schema says. One without a
/// schema may print anything.
pub fn check(subcommand: &str, printed: &[u8]) -> Result<()> {
    let Some((_, schema)) = PUBLISHED.iter().find(|(name, _)| *name == subcommand) else {
        return Ok(());
    };
    let value: Value = serde_json::from_slice(printed)
        .with_context(|| format!("{subcommand} --json printed no JSON"))?;
    let schema: Value = serde_json::from_str(schema).context("the schema is no JSON")?;
    Schema { root: &schema }
        .check(&schema, &value)
        .with_context(|| format!("{subcommand} --json is not as its schema says"))
}

struct Schema<'s> {
    root: &'s Value,
}

impl Schema<'_> {
    fn check(&self, schema: &Value, value: &Value) -> Result<()> {
        let rules = schema.as_object().context("a schema is an object")?;
        for (keyword, rule) in rules {
            match &**keyword {
                "$ref" => self.check(self.target(rule)?, value)?,
                "type" => ensure!(is_of(rule, value), "{value} is not of type {rule}"),
                "const" => ensure!(value == rule, "{value} is not {rule}"),
                "enum" => {
                    let all = rule.as_array().context("enum is a list")?;
                    ensure!(all.contains(value), "{value} is none of {rule}");
                }
                "minimum" => {
                    let least = rule.as_f64().context("minimum is a number")?;
                    let is_less = value.as_f64().is_some_and(|value| value < least);
                    ensure!(!is_less, "{value} is less than {least}");
                }
                "anyOf" => self.any(rule.as_array().context("anyOf is a list")?, value)?,
                "items" => {
                    for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item).with_context(|| format!("[{nth}]"))?;
                    }
                }
                "required" => {
                    let keys = rule.as_array().context("required is a list")?;
                    let lacks = |key: &&Value| {
                        let there = value.as_object();
                        there.is_some_and(|there| !there.contains_key(key.as_str().unwrap_or("")))
                    };
                    let missing = keys.iter().find(lacks);
                    ensure!(missing.is_none(), "{missing:?} is missing in {value}");
                }
                "properties" | "additionalProperties" => {}
                word if ANNOTATIONS.contains(&word) => {}
                word => bail!("the schema has {word:?}, which nobody checks"),
            }
        }
        match value.as_object() {
            Some(object) => self.object(rules, object),
            None => Ok(()),
        }
    }

    fn target(&self, reference: &Value) -> Result<&Value> {
        let path = reference.as_str().and_then(|text| text.strip_prefix('#'));
        let target = path.and_then(|path| self.root.pointer(path));
        target.with_context(|| format!("{reference} leads nowhere"))
    }

    fn any(&self, all: &[Value], value: &Value) -> Result<()> {
        let failures: Vec<String> = all
            .iter()
            .map(|one| self.check(one, value))
            .filter_map(|done| Some(format!("{:#}", done.err()?)))
            .collect();
        ensure!(failures.len() < all.len(), "{}", failures.join("; nor: "));
        Ok(())
    }

    fn object(&self, rules: &Map<String, Value>, object: &Map<String, Value>) -> Result<()> {
        let others = rules.get("additionalProperties");
        for (key, value) in object {
            let known = rules.get("properties").and_then(|known| known.get(key));
            match known.or(others) {
                Some(Value::Bool(false)) => bail!("{key:?} is not in the schema"),
                None | Some(Value::Bool(true)) => {}
                Some(schema) => self.check(schema, value).with_context(|| key.clone())?,
            }
        }
        Ok(())
    }
}

/// Whether a value is of the type, or of one of them.
fn is_of(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    types
        .as_array()
        .map_or_else(|| is(types), |all| all.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(schema: &Value, value: &Value) -> String {
        let done = Schema { root: schema }.check(schema, value);
        done.map_or_else(|error| format!("{error:#}"), |()| "right".to_owned())
    }

    #[test]
    fn what_a_schema_does_not_say_is_noticed() {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["a"],
            "properties": {
                "a": { "type": ["integer", "null"], "minimum": 0 },
                "b": { "anyOf": [{ "const": 1 }, { "$ref": "#/$defs/list" }] },
                "c": { "enum": ["x", null] },
                "d": { "type": "object", "additionalProperties": { "type": "boolean" } }
            },
            "$defs": { "list": { "type": "array", "items": { "type": "string" } } }
        });
        for right in [
            json!({ "a": 1, "b": 1, "c": null, "d": { "e": true } }),
            json!({ "a": null, "b": ["x"], "c": "x", "d": {} }),
        ] {
            assert_eq!(said(&schema, &right), "right");
        }
        for (wrong, why) in [
            (json!({}), "is missing in {}"),
            (json!({ "a": 1, "z": 1 }), "\"z\" is not in the schema"),
            (json!({ "a": -1 }), "a: -1 is less than 0"),
            (json!({ "a": 0.5 }), "a: 0.5 is not of type"),
            (
                json!({ "a": 1, "b": [1] }),
                "b: [1] is not 1; nor: [0]: 1 is not of type",
            ),
            (json!({ "a": 1, "c": "y" }), "c: \"y\" is none of"),
            (json!({ "a": 1, "d": { "e": 1 } }), "d: e: 1 is not of type"),
            (json!([]), "[] is not of type"),
        ] {
            let said = said(&schema, &wrong);
            assert!(said.contains(why), "{said}");
        }
        let unknown = said(&json!({ "pattern": "a" }), &json!("b"));
        assert!(unknown.contains("which nobody checks"), "{unknown}");
    }

    #[test]
    fn each_published_schema_can_be_read_and_is_strict() {
        for (subcommand, _) in PUBLISHED {
            let wrong = format!("{:#}", check(subcommand, b"{\"x\":1}").unwrap_err());
            assert!(
                wrong.contains("is missing") || wrong.contains("not in the"),
                "{wrong}"
            );
            assert!(!wrong.contains("nobody checks"), "{wrong}");
        }
        assert!(check("status", b"").is_err() && check("top", b"").is_ok());
    }
}
