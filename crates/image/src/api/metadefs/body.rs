//! Bodies, held against what a definition's schema allows.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use umbel_core::{Error, Result};
use umbel_http::Req;

/// A kind of body, by the name of its schema.
pub struct Shape {
    pub schema: &'static str,
    /// What a client may write.
    pub fields: &'static [&'static str],
    /// What only the service writes: 403, where everything else that is unknown is 400.
    pub read_only: &'static [&'static str],
}

const MOMENTS: &[&str] = &["created_at", "updated_at"];
const GENERATED: &[&str] = &["created_at", "updated_at", "self", "schema"];

pub const NAMESPACE: Shape = Shape {
    schema: "namespace",
    fields: &[
        "namespace",
        "display_name",
        "description",
        "visibility",
        "protected",
        "owner",
        "resource_type_associations",
        "properties",
        "objects",
        "tags",
    ],
    read_only: GENERATED,
};
pub const OBJECT: Shape =
    Shape { schema: "object", fields: &["name", "description", "required", "properties"], read_only: GENERATED };
pub const PROPERTY: Shape = Shape {
    schema: "property",
    fields: &[
        "name",
        "title",
        "type",
        "description",
        "operators",
        "default",
        "readonly",
        "confidential",
        "minimum",
        "maximum",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "additionalItems",
    ],
    read_only: MOMENTS,
};
pub const TAG: Shape = Shape { schema: "tag", fields: &["name"], read_only: MOMENTS };
pub const TAGS: Shape = Shape { schema: "tags", fields: &["tags"], read_only: MOMENTS };
pub const ASSOCIATION: Shape =
    Shape { schema: "resource_type_association", fields: &["name", "prefix", "properties_target"], read_only: MOMENTS };

impl Shape {
    pub async fn read<T: DeserializeOwned>(&self, req: &mut Req) -> Result<T> {
        self.check(req.json().await?)
    }

    fn check<T: DeserializeOwned>(&self, body: Map<String, Value>) -> Result<T> {
        if let Some(name) = self.read_only.iter().find(|name| body.contains_key(**name)) {
            return Err(Error::forbidden(format!("Attribute '{name}' is read-only.")));
        }
        if let Some(name) = body.keys().find(|name| !self.fields.contains(&name.as_str())) {
            let reason = format!("Additional properties are not allowed ('{name}' was unexpected)");
            return Err(self.refused(&reason));
        }
        serde_json::from_value(Value::Object(body)).map_err(|error| self.refused(&error.to_string()))
    }

    fn refused(&self, reason: &str) -> Error {
        Error::bad_request(format!("Provided object does not match schema '{}': {reason}", self.schema))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use umbel_api::image::metadefs::Property;
    use umbel_core::Kind;

    use super::*;

    fn check(shape: &Shape, body: Value) -> Option<Kind> {
        let Value::Object(body) = body else { unreachable!() };
        let checked: Result<Property> = shape.check(body);
        checked.err().map(|error| error.kind())
    }

    #[test]
    fn bodies_hold_what_the_schema_names() {
        let good = json!({"name": "p", "title": "P", "type": "string", "enum": ["a", 1], "minLength": 0});
        assert_eq!(check(&PROPERTY, good), None);
        let bad = |more: Value| {
            let mut body = json!({"title": "P", "type": "string"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            check(&PROPERTY, body)
        };
        assert_eq!(bad(json!({"created_at": "now"})), Some(Kind::Forbidden));
        for more in [
            json!({"self": "x"}),
            json!({"colour": "x"}),
            json!({"type": "colour"}),
            json!({"minLength": -1}),
            json!({"items": {"type": "string", "colour": 1}}),
        ] {
            assert_eq!(bad(more.clone()), Some(Kind::BadRequest), "{more}");
        }
        assert_eq!(check(&PROPERTY, json!({"title": "P"})), Some(Kind::BadRequest));
    }
}
