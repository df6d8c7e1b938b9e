//! Why a rule has an alert or none: the values that speak for an alert, a selector that matches
//! nothing, and what would feed it.

pub mod dead;
pub(super) mod evidence;
pub mod feed;
pub mod no_alert;
