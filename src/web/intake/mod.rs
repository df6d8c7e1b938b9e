//! What applications bring: reports and pushes of jobs, telemetry, and calls of language models
//! that are passed on.

pub mod job;
pub mod llm;
pub mod otlp;
