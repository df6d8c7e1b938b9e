//! What keeps a notification back although its alert fires: silences that people make, inhibition
//! by other alerts, and alerts that flap.
//!
//! Each file answers for one alert at one instant whether it is muted, and by what;
//! [`super::flush`] asks them in Alertmanager's order.

pub mod flapping;
pub mod inhibit;
pub mod silence;
