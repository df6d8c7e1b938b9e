//! Attackers and bad luck beside a healthy target, a critical rule and a webhook: afterwards nothing was missed.

mod names;
