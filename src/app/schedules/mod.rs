//! What happens by itself at its times: reports are sent, hours rolled up, planned windows
//! announced.

pub mod reports;
pub mod rollups;
pub mod windows;
