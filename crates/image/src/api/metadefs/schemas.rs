//! JSON schemas of the bodies. Clients refuse what they do not name.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};

use crate::Images;

pub async fn show(_: Arc<Images>, req: Req) -> Result<Reply> {
    let schema = match req.param("schema")? {
        "namespace" => with_definitions(namespace()),
        "namespaces" => with_definitions(list("namespaces", namespace())),
        "object" => with_definitions(object()),
        "objects" => with_definitions(list("objects", object())),
        "property" => with_definitions(property(&["title", "type", "name"])),
        "properties" => with_definitions(map("properties", property(&["title", "type"]))),
        "tag" => tag(),
        "tags" => list("tags", tag()),
        "resource_type" => association(),
        "resource_types" => list("resource_type_associations", association()),
        other => return Err(Error::not_found(format!("There is no schema 'metadefs/{other}'."))),
    };
    Ok(Reply::json(200, &schema))
}

fn namespace() -> Value {
    let properties = json!({
        "namespace": text(80, "Name, unique in the cloud"),
        "display_name": text(80, "Name for people"),
        "description": text(500, "What the namespace is for"),
        "visibility": {"type": "string", "enum": ["public", "private"], "description": "Who sees the namespace"},
        "protected": {"type": "boolean", "description": "Whether the namespace is kept from deletion"},
        "owner": text(255, "Project that owns the namespace"),
        "created_at": moment("When the namespace was made"),
        "updated_at": moment("When the namespace last changed"),
        "self": read_only(),
        "schema": read_only(),
        "resource_type_associations": items(json!({
            "name": {"type": "string"},
            "prefix": {"type": "string"},
            "properties_target": {"type": "string"},
        })),
        "properties": {"$ref": "#/definitions/property"},
        "objects": items(json!({
            "name": {"type": "string"},
            "description": {"type": "string"},
            "required": {"$ref": "#/definitions/stringArray"},
            "properties": {"$ref": "#/definitions/property"},
        })),
        "tags": items(json!({"name": {"type": "string"}})),
    });
    schema("namespace", properties, &["namespace"])
}

fn object() -> Value {
    let properties = json!({
        "name": {"type": "string", "maxLength": 80},
        "description": {"type": "string"},
        "required": {"$ref": "#/definitions/stringArray"},
        "properties": {"$ref": "#/definitions/property"},
        "created_at": moment("When the object was made"),
        "updated_at": moment("When the object last changed"),
        "self": read_only(),
        "schema": read_only(),
    });
    schema("object", properties, &["name"])
}

fn property(required: &[&str]) -> Value {
    schema("property", property_fields(), required)
}

fn tag() -> Value {
    let properties = json!({
        "name": {"type": "string", "maxLength": 80},
        "created_at": moment("When the tag was made"),
        "updated_at": moment("When the tag last changed"),
    });
    schema("tag", properties, &["name"])
}

fn association() -> Value {
    let properties = json!({
        "name": text(80, "Type of resources, named as orchestration names it"),
        "prefix": text(80, "What stands before the names of properties on such a resource, with its separator"),
        "properties_target": text(80, "Which of a resource's sets of properties is meant, where it has several"),
        "created_at": moment("When the namespace became meant for it"),
        "updated_at": moment("When that last changed"),
    });
    schema("resource_type_association", properties, &["name"])
}

fn property_fields() -> Value {
    let kind = json!({"type": "string", "enum": ["array", "boolean", "integer", "number", "object", "string", null]});
    json!({
        "name": {"type": "string", "maxLength": 80},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "operators": {"type": "array", "items": {"type": "string"}},
        "type": kind,
        "minimum": {"type": "number"},
        "maximum": {"type": "number"},
        "maxLength": {"$ref": "#/definitions/positiveInteger"},
        "minLength": {"$ref": "#/definitions/positiveIntegerDefault0"},
        "pattern": {"type": "string", "format": "regex"},
        "enum": {"type": "array"},
        "readonly": {"type": "boolean"},
        "confidential": {"type": "boolean"},
        "default": {},
        "items": {"type": "object", "properties": {"type": kind, "enum": {"type": "array"}}},
        "maxItems": {"$ref": "#/definitions/positiveInteger"},
        "minItems": {"$ref": "#/definitions/positiveIntegerDefault0"},
        "uniqueItems": {"type": "boolean", "default": false},
        "additionalItems": {"type": "boolean"},
    })
}

fn schema(name: &str, properties: Value, required: &[&str]) -> Value {
    json!({"name": name, "properties": properties, "additionalProperties": false, "required": required})
}

fn list(name: &str, item: Value) -> Value {
    collection(name, json!({"type": "array", "items": item}))
}

/// A collection whose members are found by name.
fn map(name: &str, item: Value) -> Value {
    collection(name, json!({"type": "object", "additionalProperties": item}))
}

fn collection(name: &str, members: Value) -> Value {
    json!({
        "name": name,
        "properties": {
            name: members,
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

/// What `#/definitions/` in a document refers to, which must be at its root.
fn with_definitions(mut document: Value) -> Value {
    let mut definitions = Map::new();
    definitions.insert("positiveInteger".to_owned(), json!({"type": "integer", "minimum": 0}));
    let default = json!({"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]});
    definitions.insert("positiveIntegerDefault0".to_owned(), default);
    let texts = json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true});
    definitions.insert("stringArray".to_owned(), texts);
    let property = json!({"type": "object", "required": ["title", "type"], "properties": property_fields()});
    definitions.insert("property".to_owned(), json!({"type": "object", "additionalProperties": property}));
    document["definitions"] = Value::Object(definitions);
    document
}

fn text(longest: u32, description: &str) -> Value {
    json!({"type": "string", "maxLength": longest, "description": description})
}

fn moment(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "readOnly": true, "description": description})
}

fn read_only() -> Value {
    json!({"type": "string", "readOnly": true})
}

fn items(properties: Value) -> Value {
    json!({"type": "array", "items": {"type": "object", "properties": properties}})
}
