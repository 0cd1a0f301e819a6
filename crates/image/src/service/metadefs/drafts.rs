//! What a client may write into a namespace, checked and made ready for the table.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use umbel_api::image::metadefs::{NewNamespace, NewObject, NewResourceType, Property};
use umbel_core::{Error, Result};

use crate::store::metadefs::Kind;

/// Characters of a name.
const NAME: usize = 80;

/// An item that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub name: String,
    pub body: String,
}

/// What is stored of an object beside its name.
#[derive(Serialize, Deserialize)]
pub(crate) struct ObjectBody {
    pub description: Option<String>,
    pub required: Vec<String>,
    pub properties: BTreeMap<String, Property>,
}

/// What is stored of an association beside its resource type.
#[derive(Serialize, Deserialize)]
pub(crate) struct AssociationBody {
    pub prefix: Option<String>,
    pub properties_target: Option<String>,
}

impl Draft {
    pub fn object(new: &NewObject) -> Result<Draft> {
        check_name("object", "name", &new.name)?;
        let distinct: BTreeSet<&String> = new.required.iter().collect();
        if distinct.len() != new.required.len() {
            return Err(refused("object", "required has non-unique elements"));
        }
        for (name, property) in &new.properties {
            check_property(name, property)?;
        }
        let (description, required) = (new.description.clone(), new.required.clone());
        Draft::of(&new.name, &ObjectBody { description, required, properties: new.properties.clone() })
    }

    /// By itself, it has its name within.
    pub fn property(new: &Property) -> Result<Draft> {
        match &new.name {
            Some(name) => Draft::named_property(name, new),
            None => Err(refused("property", "'name' is a required property")),
        }
    }

    pub fn tag(name: &str) -> Result<Draft> {
        check_name("tag", "name", name)?;
        Draft::of(name, &())
    }

    pub fn association(new: &NewResourceType) -> Result<Draft> {
        let schema = "resource_type_association";
        check_name(schema, "name", &new.name)?;
        check_text(schema, "prefix", new.prefix.as_deref(), NAME)?;
        check_text(schema, "properties_target", new.properties_target.as_deref(), NAME)?;
        let (prefix, properties_target) = (new.prefix.clone(), new.properties_target.clone());
        Draft::of(&new.name, &AssociationBody { prefix, properties_target })
    }

    fn named_property(name: &str, property: &Property) -> Result<Draft> {
        check_name("property", "name", name)?;
        check_property(name, property)?;
        Draft::of(name, &Property { name: None, ..property.clone() })
    }

    fn of(name: &str, body: &impl Serialize) -> Result<Draft> {
        let body = serde_json::to_string(body).map_err(|error| Error::internal("a definition").because(error))?;
        Ok(Draft { name: name.to_owned(), body })
    }
}

/// All that a new namespace is to hold.
pub fn within(new: &NewNamespace) -> Result<Vec<(Kind, Draft)>> {
    let mut drafts = Vec::new();
    for one in &new.resource_type_associations {
        drafts.push((Kind::ResourceType, Draft::association(one)?));
    }
    for one in &new.objects {
        drafts.push((Kind::Object, Draft::object(one)?));
    }
    for one in &new.tags {
        drafts.push((Kind::Tag, Draft::tag(&one.name)?));
    }
    for (name, one) in &new.properties {
        drafts.push((Kind::Property, Draft::named_property(name, one)?));
    }
    Ok(drafts)
}

pub fn check_namespace(new: &NewNamespace) -> Result<()> {
    check_name("namespace", "namespace", &new.namespace)?;
    check_text("namespace", "display_name", new.display_name.as_deref(), NAME)?;
    check_text("namespace", "description", new.description.as_deref(), 500)?;
    check_text("namespace", "owner", new.owner.as_deref(), 255)
}

/// Whether there can be something of this name: no database is asked for a text that it cannot hold.
pub fn findable(name: &str) -> Result<(), ()> {
    match name.contains('\0') {
        true => Err(()),
        false => Ok(()),
    }
}

fn check_property(key: &str, property: &Property) -> Result<()> {
    let name = property.name.as_deref().unwrap_or(key);
    check_text("property", "name", Some(name), NAME)
}

/// Nothing could be found by an empty name: it would be no segment of a path.
fn check_name(schema: &str, field: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(refused(schema, &format!("{field} is empty")));
    }
    check_text(schema, field, Some(value), NAME)
}

fn check_text(schema: &str, field: &str, value: Option<&str>, longest: usize) -> Result<()> {
    let value = value.unwrap_or("");
    if value.chars().count() > longest {
        return Err(refused(schema, &format!("{field} is longer than {longest} characters")));
    }
    match value.contains('\0') {
        true => Err(refused(schema, &format!("{field} holds a null character"))),
        false => Ok(()),
    }
}

fn refused(schema: &str, reason: &str) -> Error {
    Error::bad_request(format!("Provided object does not match schema '{schema}': {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, required: &[&str]) -> NewObject {
        let required = required.iter().map(|name| (*name).to_owned()).collect();
        NewObject { name: name.to_owned(), required, ..NewObject::default() }
    }

    #[test]
    fn names_have_1_to_80_characters() {
        let longest = "ü".repeat(80);
        for (name, good) in [("a", true), (&longest, true), ("", false), (&"x".repeat(81), false), ("a\0", false)] {
            assert_eq!(Draft::tag(name).is_ok(), good, "{name}");
            assert_eq!(Draft::object(&object(name, &[])).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn what_is_required_is_named_once() {
        assert!(Draft::object(&object("o", &["a", "b"])).is_ok());
        assert!(Draft::object(&object("o", &["a", "a"])).is_err());
    }

    #[test]
    fn a_property_by_itself_has_a_name() {
        let mut property: Property = serde_json::from_str(r#"{"title": "T", "type": "string"}"#).unwrap();
        assert!(Draft::property(&property).is_err());
        property.name = Some("p".to_owned());
        let draft = Draft::property(&property).unwrap();
        assert_eq!(draft.name, "p");
        assert_eq!(draft.body, r#"{"title":"T","type":"string"}"#);
    }
}
