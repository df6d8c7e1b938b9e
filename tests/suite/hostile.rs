//! The built binary against those who mean harm, and against bad luck. Each module names its kind.

mod actions;
mod browsers;
mod encrypted;
mod flood;
mod folders;
mod terminals;
