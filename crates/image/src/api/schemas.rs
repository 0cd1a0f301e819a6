//! JSON schemas of the bodies. Older clients make their models from them and refuse what they do not name.

use std::sync::Arc;

use serde_json::{Value, json};
use umbel_api::image::{ContainerFormat, DiskFormat, ImageStatus, TaskStatus, TaskType, Visibility};
use umbel_core::{Error, Result};
use umbel_http::{Reply, Req};

use crate::Images;

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

pub async fn show(_: Arc<Images>, req: Req) -> Result<Reply> {
    let schema = match req.param("schema")? {
        "image" => image(),
        "images" => collection("images", image()),
        "member" => member(),
        "members" => members(),
        "task" => task(TASK_ONLY),
        "tasks" => collection("tasks", task(&[])),
        other => return Err(Error::not_found(format!("There is no schema '{other}'."))),
    };
    Ok(Reply::json(200, &schema))
}

fn image() -> Value {
    let mut properties = json!({
        "id": {"type": "string", "pattern": UUID, "description": "Identifier of the image"},
        "name": {"type": ["null", "string"], "maxLength": 255, "description": "Name of the image"},
        "status": read_only("string", "Where the image is in its life"),
        "visibility": {"type": "string", "enum": names(Visibility::ALL.map(Visibility::name)),
            "description": "Who sees the image"},
        "protected": {"type": "boolean", "description": "Whether the image is kept from deletion"},
        "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out by default"},
        "owner": {"type": ["null", "string"], "maxLength": 255, "description": "Project that owns the image"},
        "container_format": {"type": ["null", "string"], "enum": nullable(ContainerFormat::ALL.map(ContainerFormat::name)),
            "description": "What is around the disk"},
        "disk_format": {"type": ["null", "string"], "enum": nullable(DiskFormat::ALL.map(DiskFormat::name)),
            "description": "Format of the disk"},
        "min_ram": {"type": "integer", "description": "MiB of memory that a server needs"},
        "min_disk": {"type": "integer", "description": "GiB of disk that a server needs"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}, "description": "Words about the image"},
        "locations": locations(),
    });
    let nullable_text = ["checksum", "os_hash_algo", "os_hash_value"];
    let numbers = ["size", "virtual_size"];
    let texts = ["created_at", "updated_at", "direct_url", "self", "file", "schema", "stores"];
    for name in nullable_text {
        properties[name] = json!({"type": ["null", "string"], "readOnly": true, "description": about(name)});
    }
    for name in numbers {
        properties[name] = json!({"type": ["null", "integer"], "readOnly": true, "description": about(name)});
    }
    for name in texts {
        properties[name] = read_only("string", about(name));
    }
    properties["status"]["enum"] = names(ImageStatus::ALL.map(ImageStatus::name));
    for (name, description) in [("kernel_id", "Image of the kernel to boot"), ("ramdisk_id", "Image of the ramdisk")] {
        properties[name] =
            json!({"type": ["null", "string"], "pattern": UUID, "description": description, "is_base": false});
    }
    for (name, description) in COMMON {
        properties[name] = json!({"type": "string", "description": description, "is_base": false});
    }
    json!({
        "name": "image",
        "properties": properties,
        "additionalProperties": {"type": "string"},
        "links": [
            {"rel": "self", "href": "{self}"},
            {"rel": "enclosure", "href": "{file}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

/// Custom properties that everyone knows.
const COMMON: [(&str, &str); 7] = [
    ("architecture", "Processor that the system in the image is made for"),
    ("os_distro", "Distribution of the system in the image, in lower case"),
    ("os_version", "Version of the system in the image"),
    ("instance_uuid", "Server that the image was made from"),
    ("description", "What a person wants to know of the image"),
    ("cinder_encryption_key_id", "Key of the volume that the image was made from"),
    ("cinder_encryption_key_deletion_policy", "Whether that key goes with the image"),
];

fn about(name: &str) -> &'static str {
    match name {
        "checksum" => "MD5 of the data",
        "os_hash_algo" => "Algorithm of os_hash_value",
        "os_hash_value" => "Digest of the data",
        "size" => "Bytes of the data",
        "virtual_size" => "Bytes of the disk that a guest sees",
        "created_at" => "When the image was named",
        "updated_at" => "When the image last changed",
        "direct_url" => "Where the data are",
        "self" => "Path of the image",
        "file" => "Path of the data",
        "schema" => "Path of this schema",
        _ => "Stores that hold the data",
    }
}

fn locations() -> Value {
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "url": {"type": "string"},
                "metadata": {"type": "object"},
                "validation_data": {"type": "object"},
            },
            "required": ["url", "metadata"],
        },
        "description": "Where the data are",
    })
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "member_id": {"type": "string", "description": "Project that the image is shared with"},
            "image_id": {"type": "string", "pattern": UUID, "description": "The image"},
            "status": {"type": "string", "enum": ["pending", "accepted", "rejected"],
                "description": "What the project says to it"},
            "created_at": {"type": "string", "description": "When it was shared"},
            "updated_at": {"type": "string", "description": "When the status last changed"},
            "schema": {"type": "string", "readOnly": true},
        },
    })
}

fn members() -> Value {
    json!({
        "name": "members",
        "properties": {
            "members": {"type": "array", "items": member()},
            "schema": {"type": "string"},
        },
        "links": [{"rel": "describedby", "href": "{schema}"}],
    })
}

/// What lists leave out.
const TASK_ONLY: &[(&str, &str)] =
    &[("input", "What was asked for"), ("result", "What came of it"), ("message", "How far it is, or why it failed")];

fn task(more: &[(&str, &str)]) -> Value {
    let mut properties = json!({
        "id": {"type": "string", "pattern": UUID, "description": "Identifier of the task"},
        "type": {"type": "string", "enum": names(TaskType::ALL.map(TaskType::name)), "description": "Kind of work"},
        "status": {"type": "string", "enum": names(TaskStatus::ALL.map(TaskStatus::name)),
            "description": "Where the task is in its life"},
        "owner": {"type": ["null", "string"], "description": "Project that asked for it"},
        "image_id": {"type": "string", "description": "Image that it is about"},
        "request_id": {"type": "string", "description": "Request that began it"},
        "user_id": {"type": "string", "description": "Who asked for it"},
        "expires_at": {"type": ["null", "string"], "description": "Until when it is kept"},
        "created_at": {"type": "string", "description": "When it was asked for"},
        "updated_at": {"type": "string", "description": "When it last changed"},
        "self": {"type": "string", "readOnly": true},
        "schema": {"type": "string", "readOnly": true},
    });
    for (name, description) in more {
        let kind = if *name == "message" { json!("string") } else { json!(["null", "object"]) };
        properties[*name] = json!({"type": kind, "description": description});
    }
    json!({"name": "task", "properties": properties})
}

fn collection(name: &str, item: Value) -> Value {
    json!({
        "name": name,
        "properties": {
            name: {"type": "array", "items": item},
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

fn read_only(kind: &str, description: &str) -> Value {
    json!({"type": kind, "readOnly": true, "description": description})
}

fn names<const N: usize>(names: [&str; N]) -> Value {
    json!(names.as_slice())
}

fn nullable<const N: usize>(names: [&str; N]) -> Value {
    let all: Vec<Value> = std::iter::once(Value::Null).chain(names.into_iter().map(Value::from)).collect();
    json!(all)
}
