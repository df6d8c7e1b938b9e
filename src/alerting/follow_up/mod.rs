//! What happens after people were notified: a critical alert that nobody acknowledges goes to the
//! next contact, and a recovery action is taken. Both are pure decisions of a flush;
//! [`super::delivery`] carries them out.

pub mod escalation;
pub mod recovery;
