//! The parts of a message.

use super::super::wire::{Fields, Value};

/// What is wrong with a message, in words that quote nothing of it.
pub type Problem = &'static str;

/// Calls `visit` for each message in the fields of one number; all others must be whole.
pub(super) fn each<'a>(
    mut fields: Fields<'a>,
    wanted: u32,
    mut visit: impl FnMut(Fields<'a>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    while let Some((number, value)) = fields.next()? {
        if number == wanted {
            visit(value.message()?)?;
        }
    }
    Ok(())
}

/// An identifier of fixed length; `None` where it is absent or of another length.
pub(super) fn identifier<const N: usize>(value: Value<'_>) -> Result<Option<[u8; N]>, Problem> {
    Ok(value
        .bytes()?
        .try_into()
        .ok()
        .filter(|id: &[u8; N]| *id != [0; N]))
}
