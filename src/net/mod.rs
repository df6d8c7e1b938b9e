//! From a host name to an open TCP connection, without ever making anybody else wait.
//!
//! `getaddrinfo` blocks its thread for as long as dead name servers let it: ten seconds for one,
//! twenty for two. So every name of this process is resolved here, on a few threads that do nothing
//! else ([`resolver`]), and connections are opened with a share of the deadline for each address
//! ([`connect()`]).

mod connect;
mod resolver;

pub use connect::{ConnectError, connect, connect_any};
pub use resolver::{ResolveError, register, resolve, resolve_now};
