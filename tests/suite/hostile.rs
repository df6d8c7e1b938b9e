//! Hostile use and bad luck against the built binary: what one of many does must not take anything from the others.

mod shares;
