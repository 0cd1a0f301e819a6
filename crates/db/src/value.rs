use umbel_core::{Generation, Id, Timestamp};

/// What a column can hold. Only two kinds, because the three engines agree on these: a truth value is 0 or 1, a moment
/// is microseconds, an id is its text, a document is its JSON text. A null knows its kind (PostgreSQL insists).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Int(Option<i64>),
    Text(Option<String>),
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(Some(value.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Value::Text(Some(value.clone()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Value::Text(value)
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Value::Text(value.clone())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Value::Text(value.map(str::to_owned))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(Some(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(Some(value.into()))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(Some(value.into()))
    }
}

/// Sizes and counts; a value above `i64::MAX` cannot be stored and is held at it.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Value::from(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Int(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Value::Int(value)
    }
}

impl From<Option<u64>> for Value {
    fn from(value: Option<u64>) -> Self {
        Value::Int(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Self {
        Value::Int(value.map(i64::from))
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Value::Int(Some(value.0))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(value: Option<Timestamp>) -> Self {
        Value::Int(value.map(|moment| moment.0))
    }
}

impl From<Generation> for Value {
    fn from(value: Generation) -> Self {
        Value::Int(Some(value.0))
    }
}

impl<T> From<Id<T>> for Value {
    fn from(value: Id<T>) -> Self {
        Value::Text(Some(value.to_string()))
    }
}

impl<T> From<&Id<T>> for Value {
    fn from(value: &Id<T>) -> Self {
        Value::Text(Some(value.to_string()))
    }
}

impl<T> From<Option<Id<T>>> for Value {
    fn from(value: Option<Id<T>>) -> Self {
        Value::Text(value.map(|id| id.to_string()))
    }
}
