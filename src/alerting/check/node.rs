//! Reading single values of an `alertmanager.yml`, where both the check and its simplification
//! look.

use crate::config::{Node, Value};
use crate::notify::NOTIFIERS;

pub(in crate::alerting) fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

pub(in crate::alerting) fn is_delivered(key: &str) -> bool {
    NOTIFIERS.iter().any(|kind| kind.key == key)
}
