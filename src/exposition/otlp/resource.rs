//! Messages by the resource that they are about.

use super::super::wire::Fields;
use super::attribute::Attributes;
use super::message::{Problem, each};

/// Calls `visit` for each message in field `outer` with the attributes of its resource, which may
/// come after what it describes.
pub(super) fn each_resource<'a>(
    body: &'a [u8],
    outer: u32,
    mut visit: impl FnMut(&Attributes<'a>, Fields<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    each(Fields::of(body), outer, |whole| {
        let mut resource = Attributes::default();
        each(whole, 1, |fields| {
            Attributes::read(&mut resource, fields, 1)
        })?;
        visit(&resource, whole)
    })
}
